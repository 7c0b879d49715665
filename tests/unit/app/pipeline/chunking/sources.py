"""The same small program in several languages, and settings, with where each must be cut."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    name: str
    text: str
    size: int
    chunks: list[tuple[tuple[str, ...], str, str]]  # path, first line, last line


PYTHON = '''\
"""Accounts."""

import os
from decimal import Decimal

LIMIT = Decimal(100)


# Money of one person.
# It never grows by itself.
@total
class Account:
    """Holds money."""

    balance = Decimal(0)

    @logged("withdraw")
    def withdraw(self, amount: Decimal) -> None:
        """Takes money."""
        if amount > self.balance or amount > LIMIT:
            raise ValueError("not enough money on the account")
        self.balance -= amount

    # Gives it back.
    def deposit(self, amount: Decimal) -> None:
        self.balance += amount
        print("deposited", amount, "on the account of", os.getlogin())


def open_account(name: str) -> Account:
    print("opening an account for", name)
    return Account()
'''
TYPESCRIPT = """\
import { Injectable } from "@angular/core";

/** Holds money. */
@Injectable()
export class Account {
  private balance = 0;

  /** Takes money. */
  withdraw(amount: number): void {
    if (amount > this.balance) {
      throw new Error("not enough money on the account");
    }
    this.balance -= amount;
  }

  @Log()
  deposit(amount: number): void {
    this.balance += amount;
    console.log("deposited some money", amount);
  }
}

export const open = (name: string): Account => {
  console.log("opening an account for", name);
  return new Account();
};
"""
GO = """\
package bank

import (
\t"errors"
\t"fmt"
)

// Account holds money.
type Account[T any] struct {
\tbalance int
}

// Withdraw takes money.
func (a *Account[T]) Withdraw(amount int) error {
\tif amount > a.balance {
\t\treturn errors.New("not enough money on the account")
\t}
\ta.balance -= amount
\treturn nil
}

func Open(name string) *Account[int] {
\tfmt.Println("opening an account for", name, "which holds money")
\treturn &Account[int]{}
}
"""
RUST = """\
use std::fmt;

/// Holds money.
#[derive(Debug)]
pub struct Account {
    balance: i64,
}

impl Account {
    /// Takes money.
    pub fn withdraw(&mut self, amount: i64) -> bool {
        if amount > self.balance {
            return false;
        }
        self.balance -= amount;
        true
    }

    #[inline]
    pub fn deposit(&mut self, amount: i64) {
        self.balance += amount;
        println!("deposited {} on the account", amount);
    }
}

mod tests {
    fn it_opens() {}
}
"""
JAVA = """\
package bank;

import java.util.List;

/** Holds money. */
@Entity
public class Account {
    private int balance;

    /** Takes money. */
    @Transactional
    public void withdraw(int amount) {
        if (amount > balance) {
            throw new IllegalStateException("not enough money");
        }
        balance -= amount;
    }

    public Account(int balance) {
        this.balance = balance;
        System.out.println("opened an account with " + balance);
    }
}
"""
CPP = """\
#ifndef ACCOUNT_H
#define ACCOUNT_H
#include <string>
#include <vector>

namespace bank {

// Holds money.
class Account {
 public:
  void withdraw(int amount);

 private:
  int balance_ = 0;
};

void Account::withdraw(int amount) {
  if (amount > balance_) {
    throw "not enough money on the account";
  }
  balance_ -= amount;
}

}  // namespace bank
#endif
"""
BASH = """\
#!/bin/bash
set -eu

# Takes money.
withdraw() {
  if [ "$1" -gt "$balance" ]; then
    echo "not enough money on the account" >&2
    exit 1
  fi
  balance=$((balance - $1))
}

function deposit {
  balance=$((balance + $1))
  echo "deposited $1 on the account of $USER, which has $balance"
}

withdraw 5
"""
JSON = """\
{
  "name": "bank",
  "scripts": {
    "build": "tsc --project tsconfig.json --outDir dist",
    "check": "eslint . && tsc --noEmit && vitest run --coverage"
  },
  "dependencies": {
    "@angular/core": "^18.0.0",
    "@angular/router": "^18.0.0"
  }
}
"""
YAML = """\
services:
  web:
    image: nginx:1.25
    ports:
      - "80:80"
      - "443:443"
  # It keeps everything.
  database:
    image: postgres:16
    environment:
      POSTGRES_USER: someone
      POSTGRES_DB: bank
volumes:
  data: {}
"""

SOURCES = [
    Source(
        "account.py",
        PYTHON,
        260,
        [
            ((), '"""Accounts."""', "LIMIT = Decimal(100)"),
            (("Account",), "# Money of one person.", "    balance = Decimal(0)"),
            (("Account", "withdraw"), '@logged("withdraw")', "        self.balance -= amount"),
            (
                ("Account", "deposit"),
                "# Gives it back.",
                '        print("deposited", amount, "on the account of", os.getlogin())',
            ),
            (("open_account",), "def open_account(name: str) -> Account:", "    return Account()"),
        ],
    ),
    Source(
        "account.ts",
        TYPESCRIPT,
        260,
        [
            (
                (),
                'import { Injectable } from "@angular/core";',
                'import { Injectable } from "@angular/core";',
            ),
            (("Account",), "/** Holds money. */", "  private balance = 0;"),
            (("Account", "withdraw"), "/** Takes money. */", "  }"),
            (("Account", "deposit"), "@Log()", "}"),
            (("open",), "export const open = (name: string): Account => {", "};"),
        ],
    ),
    Source(
        "account.go",
        GO,
        260,
        [
            ((), "package bank", "}"),
            (("Account", "Withdraw"), "// Withdraw takes money.", "}"),
            (("Open",), "func Open(name string) *Account[int] {", "}"),
        ],
    ),
    Source(
        "account.rs",
        RUST,
        260,
        [
            ((), "use std::fmt;", "}"),
            (("Account",), "impl Account {", "    }"),
            (("Account", "deposit"), "#[inline]", "}"),
            (("tests",), "mod tests {", "}"),
        ],
    ),
    Source(
        "Account.java",
        JAVA,
        260,
        [
            ((), "package bank;", "import java.util.List;"),
            (("Account",), "/** Holds money. */", "    private int balance;"),
            (("Account", "withdraw"), "/** Takes money. */", "    }"),
            (("Account", "Account"), "public Account(int balance) {", "}"),
        ],
    ),
    Source(
        "account.h",
        CPP,
        260,
        [
            ((), "#ifndef ACCOUNT_H", "#include <vector>"),
            (("bank",), "namespace bank {", "};"),
            ((), "void Account::withdraw(int amount) {", "#endif"),  # with the end of all around it
        ],
    ),
    Source(
        "account",
        BASH,
        160,
        [
            ((), "#!/bin/bash", "set -eu"),
            (("withdraw",), "# Takes money.", "}"),
            ((), "function deposit {", "withdraw 5"),
        ],
    ),
    Source(
        "package.lock",
        JSON,
        180,
        [
            ((), "{", "  },"),
            (("dependencies",), '"dependencies": {', "}"),
        ],
    ),
    Source(
        "compose.yaml",
        YAML,
        130,
        [
            (("services",), "services:", '      - "443:443"'),
            (("services", "database"), "# It keeps everything.", "      POSTGRES_DB: bank"),
            (("volumes",), "volumes:", "  data: {}"),
        ],
    ),
]
