"""The page that asks a person to sign in. Where the button leads, app/api/auth.py goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.security.marks import public
from app.web import frame

if TYPE_CHECKING:
    from app.container import Container

_FAILURES = {
    "sign_in_refused": (
        "You could not be signed in: what came back from the identity provider was not the answer to a "
        "sign-in begun in this browser within the last 10 minutes, or it did not let you in. Try again."
    ),
    "provider_unavailable": "The identity provider gives no usable answer at the moment. Try again later.",
}
_OTHER = "Something went wrong on our side. Try again; if it stays, report the reference."


def add(web: Blueprint, container: Container) -> None:
    """Add the page."""

    @web.get("/login")
    @public
    def login() -> ResponseReturnValue:
        if container.accounts.oidc is None:
            return redirect(url_for("web.home"))
        failed = request.args.get("failed")
        return render_template(
            "login.html",
            next_path=request.args.get("next", "/"),
            failure=_FAILURES.get(failed, _OTHER) if failed else None,
            reference=request.args.get("reference", "")[:64] if failed else None,
            signed_out="signed_out" in request.args,
        )

    @web.get("/logout")
    def leave() -> ResponseReturnValue:
        """Ask first: any page may lead here, and only the person may sign out."""
        if frame.signed_in() is None:
            return redirect(url_for("web.home"))
        return render_template("logout.html")


def instead() -> ResponseReturnValue:
    """The way to the page, for one who asked for another without being signed in."""
    if frame.is_fragment():  # the part belongs to a page, and that is where to come back to
        parts = urlsplit(request.headers.get("HX-Current-URL", ""))
        back = f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"
        return Response(status=401, headers={"HX-Redirect": url_for("web.login", next=back)})
    asked = request.full_path.rstrip("?") if request.method in {"GET", "HEAD"} else "/"
    return redirect(url_for("web.login", next=asked), 303)
