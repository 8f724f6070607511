"""What must hold of a listing before it is written in a format of another tool."""

from __future__ import annotations

from stillrun_envs.errors import LockError
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import PLATFORMS, Target

__all__ = ["channels_of", "named", "require_addresses", "require_wheels", "target_of"]


def require_addresses(listing: Listing, form: str) -> None:
    """Refuse packages whose file nobody else could fetch: the ones that were packed again or built here."""
    lost = [one for one in listing.packages if not one.url and not one.source]
    if lost:
        raise LockError(
            f"{form} gives the address of each file, and {named(lost)} {_has(lost)} none: such files were packed again "
            "or built here, or are listed by their hashes alone. Keep the store, or get these packages from an index."
        )


def require_wheels(listing: Listing, form: str) -> None:
    """Refuse conda packages in a format of PyPI's tools."""
    others = [one for one in listing.packages if one.manager == "conda"]
    if others:
        raise LockError(
            f"{form} cannot hold conda packages, and {named(others)} {'is one' if len(others) == 1 else 'are some'}; "
            "write conda-lock or pixi."
        )


def channels_of(listing: Listing) -> tuple[str, ...]:
    """The listing's channels without credentials; where it names none, those that its packages lie in."""
    given = [without_credentials(one) for one in listing.channels]
    found = {
        without_credentials(one.url).rpartition("/")[0].removesuffix(f"/{one.subdir}")
        for one in listing.packages
        if one.manager == "conda" and one.url
    }
    return tuple(dict.fromkeys(given or sorted(found)))


def target_of(listing: Listing) -> Target | None:
    """What the listing is for; None when it does not say enough."""
    conda = (one.version for one in listing.packages if one.manager == "conda" and one.name == "python")
    python = listing.python or next(conda, "")
    if listing.platform not in PLATFORMS or not python:
        return None
    return Target.elsewhere(listing.platform, python, listing.virtual_packages)


def named(packages: list[Listed]) -> str:
    """Some packages in a sentence."""
    names = [f"{one.name} {one.version}".strip() for one in packages]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _has(packages: list[Listed]) -> str:
    return "has" if len(packages) == 1 else "have"
