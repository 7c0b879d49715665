"""Texts of many kinds, on which the int8 graph is calibrated and every graph is checked before use."""

from __future__ import annotations

_TEXTS = """
How do I rotate the encryption key without downtime?
%%
invoice 2024-113, total 1 204.50 EUR, due 30 days
%%
The committee met on Tuesday to review the budget, agreed to postpone the purchase of new instruments, and
asked
the laboratory to report on the state of the old ones before the end of the quarter. Two members objected:
in
their view a delay would cost more than the interest saved, because the repair contracts run out in May and
the
supplier has announced higher prices for the coming year.
%%
def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [line.rstrip() for line in file if line.strip()]

assert read_lines("a.txt") == ["one", "two"]
%%
| year | rain (mm) | sun (h) |
|---|---|---|
| 2021 | 805 | 1650 |
| 2022 | 670 | 2025 |
| 2023 | 958 | 1764 |
%%
Boundary layer flow over a heated flat plate at a Mach number of 2.4: the measured recovery factor differs
from
the laminar theory by less than two per cent, while the transition point moves upstream as the wall
temperature
rises.
%%
https://example.org/docs/install?version=3#linux  v3.2.1-rc1  sha256:9f86d081884c7d659a2feaa0c55ad015
%%
Permission is granted to use, copy and change this software, provided that this notice stays in place. There
is
no warranty of any kind; the authors are not liable for any damage that arises from its use.
%%
Der Vertrag verlängert sich um ein Jahr, wenn er nicht drei Monate vor Ablauf schriftlich gekündigt wird.
%%
Le patient se plaint de douleurs depuis trois jours ; la radiographie ne montre aucune fracture.
%%
Погода в горах меняется быстро, поэтому возьмите тёплую одежду и запас воды.
%%
请在提交申请之前阅读使用条款。数据会保存三十天。
%%
ERROR 2024-05-02T11:03:09Z worker-3 connection reset by peer (attempt 4 of 5), retrying in 120 s
%%
cats!
%%
My card was declined at the supermarket although there is money in the account. What should I do now, and
whom
can I call at the weekend?
%%
Ingredients: 500 g flour, 10 g salt, 7 g yeast, 320 ml water. Mix, knead for ten minutes, let rise for an
hour,
shape, let rise again, bake at 230 °C for 35 minutes until the crust sounds hollow.
"""  # noqa: RUF001 - Cyrillic and full-width characters are meant


def passages() -> tuple[str, ...]:
    """The texts, and two that fill the model's whole window."""
    texts = tuple(text.strip() for text in _TEXTS.split("%%"))
    return (*texts, " ".join(texts[:8]), " ".join(texts[8:]) + " " + texts[2])
