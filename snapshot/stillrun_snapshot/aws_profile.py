"""What the shared files of the AWS tools say for a profile: the part of their chain that obstore does not read itself."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillrun_snapshot.bucket import BucketError

__all__ = ["profile_settings"]

_KEYS = {
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
    "region": "aws_region",
    "endpoint_url": "aws_endpoint",
}
_INDIRECT = ("sso_session", "sso_start_url", "role_arn", "credential_process")
_VARIABLES = {
    "aws_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "aws_endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}


def profile_settings(variables: Mapping[str, str]) -> dict[str, Any]:
    """Settings of the profile in use, in obstore's words; empty when variables say it all, or there is no such file.

    BucketError for a profile that does not exist, or that tells how to get credentials with tools that are not here.
    """
    wanted = variables.get("AWS_PROFILE")
    if "AWS_ACCESS_KEY_ID" in variables and not wanted:
        return {}
    profile = _profile(variables, wanted or "default")
    if profile is None:
        if wanted:
            raise BucketError(
                f"there is no profile '{wanted}' in the AWS files of this user; 'aws configure list-profiles' shows "
                f"what there is."
            )
        return {}
    found = {
        ours: profile[theirs]
        for theirs, ours in _KEYS.items()
        if theirs in profile and not any(name in variables for name in _VARIABLES.get(ours, ()))
    }
    if "aws_access_key_id" not in found and any(key in profile for key in _INDIRECT):
        return {**found, "credential_provider": _indirect(wanted or "default")}
    return found


def _profile(variables: Mapping[str, str], name: str) -> dict[str, str] | None:
    home = Path(variables.get("HOME", "/"))
    files = {
        Path(variables.get("AWS_CONFIG_FILE", home / ".aws" / "config")): (
            "default" if name == "default" else f"profile {name}"
        ),
        Path(variables.get("AWS_SHARED_CREDENTIALS_FILE", home / ".aws" / "credentials")): name,
    }
    found: dict[str, str] = {}
    there = False
    for path, section in files.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        except configparser.Error as err:
            raise BucketError(f"{path} cannot be read: it is no file of sections and settings.") from err
        if parser.has_section(section):
            there = True
            found.update(parser[section])
    return found if there else None


def _indirect(profile: str) -> Any:
    """Who gets the credentials of a profile that only says how to get them; AWS's own library, when it is installed."""
    try:
        import boto3  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise BucketError(
            f"the AWS profile '{profile}' says how to get credentials and has none itself. Install boto3 beside "
            f"Stillrun, or put them in "
            'variables: eval "$(aws configure export-credentials --format env)".'
        ) from None
    return Boto3CredentialProvider(boto3.Session(profile_name=profile))
