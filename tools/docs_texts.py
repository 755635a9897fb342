"""What the reference says that the code does not: what to do about each error, and what each event tells its reader."""

from __future__ import annotations

from collections.abc import Mapping

from keystead.kernel.change import Action

ADVICE: Mapping[str, str] = {
    "address_unusable": "Stop what listens there, or give another address with the flag that the message names.",
    "already_exists": "Use what is there, or another name; `UpdateOwner` with `allow_missing` makes or changes.",
    "audit_sink_behind": "The message names the sink: `keystead sinks get` says what keeps it. Mend its destination, "
    "or lift its `strict_lag` (or delete it) with `SinkService`, which is never refused so; then repeat the change. "
    "Nothing was changed, also not by a revocation.",
    "bad_scope_expression": "Look at the character that is named (counted from 1) and at what was expected there. "
    "Expressions come from your own code, so this is a mistake to fix, not a verdict.",
    "bad_setting": "The message names the setting and its variable; [settings](settings.md) has the bounds.",
    "count_mismatch": "Look again with `validate_only`, then repeat the call with the number it shows. Nothing "
    "was changed.",
    "data_directory_locked": "One server at a time uses a data directory. Stop the other, or give each its own.",
    "data_directory_unusable": "The message names the file and what is wrong with it: its rights, its content, or the "
    "disk.",
    "deadline_exceeded": "A mutation may have been done all the same: repeat it with its idempotency key.",
    "etag_mismatch": "Read it again, look at what the other has changed, and repeat your change with the new etag.",
    "extra_not_installed": "Install what the message names, beside this version, or leave the setting out.",
    "idempotency_conflict": "Draw a new idempotency key for each new request; repeat a request exactly as it was.",
    "idempotency_key_weak": "Send a random UUID or 22 random characters, of `[A-Za-z0-9._:~-]`.",
    "internal": "Look for `error_id` in the server's log, where types and places are, and report it.",
    "invalid_request": "`BadRequest` names each broken field and what it must be; the same call will never succeed.",
    "journal_alive": "Somebody counts it: look at `keystead journals list`. If its node is really gone, wait the 5 "
    "minutes out and declare it lost then.",
    "journal_closed": "There is nothing to do. `keystead journals list --closed` shows it.",
    "journal_unknown": "Check the id and the database: each deployment knows its own journals alone.",
    "key_expired": "Move `expires_at` with `UpdateKey`, then rotate; or make a new key. A rotation never "
    "lengthens a life.",
    "key_limit_reached": "Revoke a key that is not needed any more, give the owner another plan, or raise the plan's "
    "`max_keys_per_owner`. Keys of one environment count, revoked ones do not.",
    "key_revoked": "Make a new key. Nothing brings a revoked one back.",
    "log_rewritten": "Somebody changed the database behind Keystead, or restored a part of it. Keep the last "
    "checkpoint and export that you have, compare them with a backup, and find out who could write there.",
    "malformed_message": "Send JSON (or protobuf) of the method's request type; the message says where reading "
    "stopped.",
    "message_too_large": "Send less in one call, or raise `message_max_bytes`.",
    "method_not_allowed": "Send a POST.",
    "method_not_found": "Check the spelling against [the API](api.md), and the server's version.",
    "no_rotation": "There is nothing to finish or cancel: no secret of the key is retiring any more. `GetKey` "
    "shows them.",
    "not_available_yet": "Leave the field out. It is refused rather than ignored, so that nobody relies on what is "
    "not there.",
    "not_found": "Check the id, and that the management key is of that workspace and environment: what it may not know "
    "answers the same as what does not exist.",
    "not_propagated": "The change is made and will hold everywhere within `staleness_bound_ms`; do not make it again. "
    "To go on waiting, repeat the call with the same idempotency key and a longer deadline. An operator sees by "
    "`keystead nodes list` who is silent or behind; one that is cut off and serves stale answers (`serve_stale`) is "
    "waited for until it is back or stopped.",
    "overloaded": "Wait as long as `RetryInfo` (or `retry-after`) says. After a restart every key is hashed once, so a "
    "burst "
    "of these right then is the bound on bcrypt at work; if it lasts, see `verify_waiting` and `keystead doctor`.",
    "permission_denied": "The message says what is missing; a scope is also named in `missing_scopes`. See "
    "[scopes](scopes.md).",
    "plan_in_use": "`PreviewPlan` says how many keys and owners refer to it. Give them another plan, end entitlements "
    "with `ApplyEntitlement`, or make another one the workspace's default; then delete it.",
    "request_timeout": "Send the body at once; a connection that only trickles is closed.",
    "schema_mismatch": "Run `keystead migrate` with this version; if a newer one ran it, use that version.",
    "stale": "This node has not heard from the database for `staleness_bound_ms`. Try another node; look at the "
    "database. "
    "`serve_stale` answers from memory instead, if you prefer a late revocation to an outage.",
    "too_many_keys": "Narrow the filters and revoke in several calls. Nothing was changed.",
    "too_many_secrets": "A key has at most five working secrets: finish its rotation, or wait for an overlap to end.",
    "too_many_sinks": "A workspace has at most 20 sinks. Delete one that is not needed any more.",
    "unauthenticated": "Send `authorization: Bearer keystead_…`, once. Missing, malformed, unknown, revoked, "
    "suspended, "
    "expired, used from elsewhere, or not a management key: all answer alike.",
    "unavailable": "Mostly the database. Wait as long as `RetryInfo` says and repeat; a mutation with its "
    "idempotency key.",
    "unknown_field": "Check the spelling against [the API](api.md); a newer client may know fields that this "
    "server does not.",
    "unsupported_media_type": "Send `content-type: application/json`, the body plain or with `content-encoding: gzip`.",
    "usage_store_unusable": "The message says what is wrong: the URL, the server, or a schema that `keystead migrate` "
    "makes. See [use ClickHouse for usage](../how-to/use-clickhouse.md).",
    "workspace_not_empty": "Revoke the workspace's customer and service keys first, for example with `RevokeKeys`.",
    "wrong_master_key": "Give the master keys that the database was built with. See "
    "[how to rotate the master key](../how-to/rotate-the-master-key.md).",
}
"""What to do about each code, by its name."""

EVENTS: Mapping[Action, tuple[str, str, tuple[str, ...]]] = {
    Action.WORKSPACE_CREATED: ("a workspace was made", "workspace", ("CreateWorkspace", "keystead up")),
    Action.WORKSPACE_UPDATED: ("its name or its default plan was changed", "workspace", ("UpdateWorkspace",)),
    Action.WORKSPACE_DELETED: ("it was deleted, with all that was in it", "workspace", ("DeleteWorkspace",)),
    Action.OWNER_CREATED: ("an owner was made", "owner", ("CreateOwner", "UpdateOwner", "CreateKey")),
    Action.OWNER_UPDATED: ("its name, metadata, plan or limits were changed", "owner", ("UpdateOwner",)),
    Action.OWNER_SUSPENDED: ("all its keys are refused from now on", "owner", ("SuspendOwner",)),
    Action.OWNER_RESUMED: ("its keys work again, each as far as it does by itself", "owner", ("ResumeOwner",)),
    Action.OWNER_DELETED: (
        "it was deleted; each of its keys has a `key.revoked` of its own",
        "owner",
        ("DeleteOwner",),
    ),
    Action.KEY_CREATED: ("a key and its first secret were made", "key", ("CreateKey", "CreateWorkspace")),
    Action.KEY_UPDATED: ("what it may do, or what it is called, was changed", "key", ("UpdateKey",)),
    Action.KEY_ROTATION_STARTED: ("a new secret was made, the old one retires", "key", ("RotateKey",)),
    Action.KEY_ROTATION_FINISHED: ("every retiring secret was retired", "key", ("FinishRotation",)),
    Action.KEY_ROTATION_CANCELLED: ("the new secret was retired, the old one is current", "key", ("CancelRotation",)),
    Action.KEY_ROTATION_DUE: (
        "its current secret is older than the plan's `rotate_every`; once for each secret",
        "key",
        ("plan rotate_every",),
    ),
    Action.KEY_SUSPENDED: ("it is refused until it is resumed", "key", ("SuspendKey", "plan suspend_overdue")),
    Action.KEY_RESUMED: ("its suspension ended", "key", ("ResumeKey",)),
    Action.KEY_REVOKED: ("it is refused for good", "key", ("RevokeKey", "RevokeKeys", "DeleteOwner")),
    Action.PLAN_CREATED: ("a plan was made", "plan", ("CreatePlan", "CreateWorkspace", "keystead up")),
    Action.PLAN_UPDATED: ("it was changed, and with it all keys that it applies to", "plan", ("UpdatePlan",)),
    Action.PLAN_DELETED: ("it was deleted; nobody referred to it", "plan", ("DeletePlan",)),
    Action.OWNER_ENTITLED: (
        "a plan goes before its own until `entitled_until_ms`, or no more",
        "owner",
        ("ApplyEntitlement",),
    ),
    Action.LIMITS_RESET: ("what was spent of limits was forgotten", "key", ("ResetLimits",)),
    Action.CREDITS_ADJUSTED: ("a balance was raised or lowered", "key", ("AdjustCredits",)),
    Action.QUOTA_THRESHOLD_REACHED: (
        "so much of a quota was spent in its period; once for each threshold",
        "counter",
        ("VerifyKey",),
    ),
    Action.JOURNAL_DECLARED_LOST: (
        "calls that a node had not counted were given up; from `short_from_ms` on usage may lack some",
        "journal",
        ("keystead journals declare-lost",),
    ),
    Action.AUTHENTICATION_FAILED: (
        "secrets were presented to `VerifyKey` or `BatchVerify` and authenticated nobody: told in groups",
        "key, when the secret was one of its own",
        ("VerifyKey", "BatchVerify"),
    ),
    Action.AUTHENTICATION_THRESHOLD_REACHED: (
        "an address or a key failed more often than `failed_attempts_alert` in ten minutes; told once for each ten",
        "key, or nothing for an address",
        ("failed authentications",),
    ),
    Action.CALL_REFUSED: (
        "calls of Keystead's own methods whose caller was not authenticated or lacked a right: told in groups",
        "nothing; the method is told apart",
        ("any method",),
    ),
    Action.SINK_CREATED: ("a sink was made", "sink", ("CreateSink",)),
    Action.SINK_UPDATED: ("where or how it carries was changed; never tells a secret", "sink", ("UpdateSink",)),
    Action.SINK_DELETED: ("it was deleted, and its place forgotten", "sink", ("DeleteSink",)),
    Action.SINK_REPLAYED: ("it carries again from an earlier place, or what it set aside", "sink", ("ReplaySink",)),
    Action.SINK_EVENT_SET_ASIDE: (
        "its destination refuses an event whenever it is asked; the sink goes on behind it",
        "sink",
        ("a sink's destination",),
    ),
    Action.AUDIT_DATA_ERASED: (
        "addresses and user agents beside events were erased; records and proofs are as they were",
        "workspace",
        ("EraseEventData",),
    ),
    Action.AUDIT_LOG_CUT: (
        "events before `first_index` are gone, at a checkpoint; their hashes stay",
        "workspace",
        ("workspace audit_retention_days",),
    ),
}
"""What happened, what the event's target is, and which methods make it."""

ALSO_NEEDED: Mapping[str, str] = {
    "ApplyEntitlement": "a management key for `ALL` environments",
    "CreateKey": "`write:owners` with `create_owner`",
    "CreateOwner": "a management key for `ALL` environments when it is given a plan or limits",
    "CreatePlan": "a management key for `ALL` environments",
    "EraseEventData": "a management key for `ALL` environments",
    "DeleteOwner": "`write:keys`, and a management key for `ALL` environments",
    "DeletePlan": "a management key for `ALL` environments",
    **dict.fromkeys(
        ("CreateSink", "DeleteSink", "GetSink", "ListSinks", "ReplaySink", "TestSink", "UpdateSink"),
        "a management key for `ALL` environments",
    ),
    "SimulatePlan": "`read:usage`",
    "UpdateOwner": "a management key for `ALL` environments for `plan_id` and `limits`",
    "UpdatePlan": "a management key for `ALL` environments",
    "UpdateWorkspace": "a management key for `ALL` environments for `default_plan_id` and `audit_retention_days`",
}
"""What methods need beyond their own scope, as their services ask for it."""
