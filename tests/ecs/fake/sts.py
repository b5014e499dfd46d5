"""GetCallerIdentity and AssumeRole."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from xml.sax.saxutils import escape

from tests.ecs.fake.answers import Answer, Call, Refused, as_xml
from tests.ecs.fake.keys import Keyring, Principal, new_credentials
from tests.ecs.fake.rights import Rights, denial

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]+)")


def get_caller_identity(principal: Principal) -> Answer:
    """Everybody may, whatever the policies say."""
    said = {"Arn": principal.arn, "UserId": principal.user_id, "Account": principal.account}
    return as_xml("GetCallerIdentity", _elements(said))


def assume_role(call: Call, principal: Principal, keyring: Keyring, rights: Rights, now: datetime) -> Answer:
    """Keys of the role's account. Raises Refused: a role that is not known is denied, not missing."""
    arn, session = call.params.get("RoleArn", ""), call.params.get("RoleSessionName", "")
    if not re.fullmatch(r"[\w+=,.@-]{2,64}", session):
        raise Refused("ValidationError", f"1 validation error detected: Value '{session}' at 'roleSessionName' failed")
    named = _ROLE.fullmatch(arn)
    if named is None:
        raise Refused("ValidationError", f"{arn} is invalid")
    if arn not in keyring.roles or keyring.roles[arn] != call.params.get("ExternalId"):
        raise denial(principal, "sts:AssumeRole", arn)
    rights.check(principal, "sts:AssumeRole", arn, {})
    expires = now + timedelta(seconds=int(call.params.get("DurationSeconds", 3600)))
    made = keyring.add(new_credentials(temporary=True), named[1], (named[2], session), expires)
    credentials = {
        "AccessKeyId": made.access_key,
        "SecretAccessKey": made.secret,
        "SessionToken": made.token or "",
        "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
    }
    role = f"arn:aws:sts::{named[1]}:assumed-role/{named[2]}/{session}"
    user = {"AssumedRoleId": f"AROADBQP57FF2AEXAMPLE:{session}", "Arn": role}
    result = f"<AssumedRoleUser>{_elements(user)}</AssumedRoleUser><Credentials>{_elements(credentials)}</Credentials>"
    return as_xml("AssumeRole", result)


def _elements(said: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in said.items())
