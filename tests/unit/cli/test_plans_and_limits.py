"""What people and programs see of plans and limits: gauges, verdicts, what a plan means, what it would have denied."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from keystead.cli.charts import ASCII, BLOCKS
from keystead.cli.limits.gauges import Gauge, gauge_bar, gauge_table
from keystead.cli.limits.notation import limit_of
from keystead.cli.painting import paint
from keystead.gen.v1 import keys_pb2, limiter_pb2, limits_pb2, owners_pb2, plans_pb2, workspaces_pb2
from tests.unit.cli.conftest import CommandLine, in_seconds, problem_in, sample_key
from tests.unit.cli.stub_server import StubServer, refusal, reply

KEY = "key_01hzxsample000000000000000"
Source = limiter_pb2.LimitGauge


def limit(text: str) -> limits_pb2.Limit:
    """Make a limit from how it is written."""
    return json_format.ParseDict(limit_of(text), limits_pb2.Limit())


def state(name: str, whole: int, left: int, reset_s: float = 0) -> limits_pb2.LimitState:
    """Say where a limit stands."""
    after = Duration()
    after.FromMilliseconds(round(reset_s * 1_000))
    return limits_pb2.LimitState(name=name, limit=whole, remaining=left, reset_after=after)


def gauges(*, degraded: bool = False) -> limiter_pb2.GetLimitsResponse:
    """Answer with one limit of each source; nobody knows where the last one stands."""
    return limiter_pb2.GetLimitsResponse(
        limits=[
            Source(limit=limit("requests=100/min"), source=Source.PLAN, state=state("requests", 100, 73, 42.7)),
            Source(limit=limit("daily=quota:10k/day@owner"), source=Source.OWNER, state=state("daily", 10_000, 512)),
            Source(limit=limit("burst=bucket:1/s:burst=9"), source=Source.KEY),
        ],
        plan_id="pln_x",
        plan_name="starter",
        degraded=degraded,
    )


def plan(name: str = "starter", *limits: str, **more: object) -> plans_pb2.Plan:
    """Make a plan."""
    made = plans_pb2.Plan(
        id=f"pln_{name}",
        name=name,
        limits=[limit(text) for text in limits],
        on_limiter_outage=plans_pb2.Plan.LOCAL,
        created_at=in_seconds(-3_600),
        etag='"1"',
    )
    made.MergeFrom(plans_pb2.Plan(**more))  # type: ignore[arg-type]  # the fields are the test's to choose
    return made


def days(count: int) -> Duration:
    """Make a duration."""
    return Duration(seconds=count * 86_400)


def test_a_gauge_tells_what_is_left_of_what_until_when_and_whose(stub: StubServer, run: CommandLine) -> None:
    """Each limit has a bar, its numbers, the time until it is whole, its source and its rule; unknown is said."""
    stub.will_answer(reply(gauges()))
    lines = run("limits", "show", KEY).stdout.splitlines()
    assert lines[0] == f"{KEY}  plan starter"
    assert lines[2].split() == ["LIMIT", "LEFT", "WHOLE", "IN", "FROM", "RULE"]
    requests, daily, burst = lines[3:]
    assert requests.split()[2:] == ["73", "of", "100", "42", "s", "plan", "100/min"]
    assert daily.split()[2:] == ["512", "of", "10,000", "owner", "quota:10000/day@owner"]
    assert burst.split()[2:] == ["not", "known", "key", "bucket:1/s:burst=9"]


def test_an_unlimited_key_says_so(stub: StubServer, run: CommandLine) -> None:
    """No limits are no empty table."""
    stub.will_answer(reply(limiter_pb2.GetLimitsResponse()))
    assert run("limits", "show", KEY).stdout.splitlines() == [
        f"{KEY}  no plan",
        "No limits apply: every call is admitted.",
    ]


def test_a_degraded_gauge_warns(stub: StubServer, run: CommandLine) -> None:
    """Who looks while the store is away learns why numbers are missing."""
    stub.will_answer(reply(gauges(degraded=True)))
    result = run("limits", "show", KEY)
    assert result.stdout.splitlines()[0].endswith("degraded")
    assert "away" in result.stderr


@pytest.mark.parametrize(
    ("left", "style", "filled"),
    ((100, "green", 10), (50, "green", 5), (49, "yellow", 5), (20, "yellow", 2), (1, "red", 1)),
)
def test_a_bar_warns_by_colour_and_length(left: int, style: str, filled: int) -> None:
    """Green is plenty, yellow less than half, red less than a fifth; a little is never drawn as nothing."""
    found = gauge_bar({"limit": 100, "remaining": left}, columns=10, glyphs=ASCII)
    assert found[0] == ("#" * filled, style)
    assert "".join(text for text, _ in found) == "#" * filled + "." * (10 - filled)


def test_nothing_left_is_an_empty_bar_in_red() -> None:
    """A spent limit and a limit of nothing look like it; one that is not known has no colour."""
    for told in ({"limit": 100, "remaining": 0}, {"limit": 0, "remaining": 0}):
        assert [piece for piece in gauge_bar(told, columns=4, glyphs=BLOCKS) if piece[0]] == [("····", "red")]
    assert gauge_bar(None, columns=4, glyphs=BLOCKS) == (("····", "dim"),)


def test_gauges_fit_on_a_narrow_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """At 80 columns no line is longer, and numbers are whole, however long a name and a rule are."""
    long = limit("a-name-that-is-forty-characters-long-xxx=credits:4000000000,refill=1000000/30d,max=4000000000@owner")
    told = json_format.MessageToDict(
        Source(limit=long, source=Source.OWNER, state=state(long.name, 4_000_000_000, 3_999_999_999, 86_400 * 20))
    )
    paint([gauge_table([Gauge.read(told)])], columns=80, terminal=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("3,999,999,999 of 4,000,000,000" in line for line in lines)


def test_watching_goes_on_and_ends_when_told(stub: StubServer, run: CommandLine) -> None:
    """`--watch` asks again and again; a program gets one object on each line, a pipe one picture below the other."""
    stub.will_answer(*[reply(gauges())] * 4)
    watch = ("limits", "show", KEY, "--watch", "--every", "100ms", "--times", "2")
    seen = [json.loads(line)["planName"] for line in run(*watch, "--json").stdout.splitlines()]
    assert seen == ["starter", "starter"]
    assert run(*watch).stdout.count("plan starter") == 2
    assert len(stub.asked) == 4


def test_watching_waits_for_a_server_that_goes_away(stub: StubServer, run: CommandLine) -> None:
    """A restart of the server is a warning; a refusal is the end, and so is a server that was never there."""
    away = refusal("unavailable", "The service stops.", status=503, reason="UNAVAILABLE", headers={"retry-after": "0"})
    denied = refusal("not_found", "There is no key.", status=404, reason="NOT_FOUND")
    watch = ("limits", "show", KEY, "--watch", "--every", "100ms")
    stub.will_answer(reply(gauges()), away, away, reply(gauges()))
    result = run(*watch, "--times", "2")
    assert (result.exit_code, result.stdout.count("plan starter")) == (0, 2)
    assert "The service stops. Trying again." in result.stderr
    stub.will_answer(reply(gauges()), denied)
    assert run(*watch).exit_code == 1
    stub.will_answer(away, away)
    assert run(*watch).exit_code == 3


def test_a_check_that_says_no_exits_with_one(stub: StubServer, run: CommandLine) -> None:
    """A script branches on the answer; a person sees which limit said no, and when to come back."""
    verdict = limiter_pb2.CheckLimitResponse(
        limits=[state("signups", 5, 0, 3_000)], binding_limit="signups", retry_after=Duration(seconds=1_234)
    )
    stub.will_answer(reply(verdict), reply(verdict))
    words = ("limits", "check", "203.0.113.7", "--limit", "signups=5/h", "--cost", "0", "--peek")
    result = run(*words, "--environment", "test", "--on-limiter-outage", "allow")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "✕ stop  signups says no; try again in 20 min 34 s"
    assert stub.asked[0].body == {
        "subject": "203.0.113.7",
        "limits": [{"name": "signups", "slidingWindow": {"limit": 5, "window": "3600s"}}],
        "cost": 0,
        "peek": True,
        "environment": "TEST",
        "onLimiterOutage": "ALLOW",
    }
    assert run(*words, "--json").exit_code == 1


def test_a_check_that_says_yes_exits_with_none(stub: StubServer, run: CommandLine) -> None:
    """Going ahead shows what is left, and whether it was decided without the store."""
    stub.will_answer(reply(limiter_pb2.CheckLimitResponse(allowed=True, limits=[state("a", 5, 4)], degraded=True)))
    result = run("limits", "check", "subject", "--limit", "a=5/h")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "● go ahead  degraded")
    assert "4 of 5" in result.stdout


def test_a_wait_without_end_is_said(stub: StubServer, run: CommandLine) -> None:
    """Nobody waits for a limit of nothing; a wait of less than a second is never said to be none."""
    for wait, said in ((None, "waiting does not help"), (Duration(nanos=1_000_000), "try again in 1 s")):
        stub.will_answer(reply(limiter_pb2.CheckLimitResponse(retry_after=wait)))
        assert said in run("limits", "check", "subject", "--limit", "a=0/h").stdout


def test_a_reset_and_an_adjustment_say_what_is_now(stub: StubServer, run: CommandLine) -> None:
    """The names that were reset, or that there were none; and the balance."""
    stub.will_answer(
        reply(limiter_pb2.ResetLimitsResponse(names=["daily", "requests"])),
        reply(limiter_pb2.ResetLimitsResponse()),
        reply(limiter_pb2.AdjustCreditsResponse(balance=1_500)),
    )
    assert run("limits", "reset", KEY).stdout == "Reset: daily, requests.\n"
    assert run("limits", "reset", KEY).stdout == "No limit is counted on the key alone.\n"
    assert run("limits", "adjust", KEY, "credit", "--add", "1000").stdout == "The balance is 1,500 now.\n"


def test_a_plan_says_what_it_means(stub: StubServer, run: CommandLine) -> None:
    """Each limit stands as it is written and in words; the rules around it are said, each only when there is one."""
    full = plan("starter", "requests=100/min", description="d", max_keys_per_owner=5, rotate_every=days(90))
    full.suspend_overdue = True
    stub.will_answer(reply(plans_pb2.GetPlanResponse(plan=full)))
    shown = run("plans", "show", "starter").stdout
    for part in (
        "at most 100 in any minute, each key",
        "every 90d, or an event warns, and later the key is suspended",
        "local (count in each process, its share)",
    ):
        assert part in shown
    full.suspend_overdue = False
    stub.will_answer(reply(plans_pb2.UpdatePlanResponse(plan=full)))
    assert "every 90d, or an event warns\n" in run("plans", "update", "starter", "--name", "starter").stdout
    stub.will_answer(reply(plans_pb2.CreatePlanResponse(plan=plan("open"))))
    shown = run("plans", "create", "open").stdout
    assert "No limits: every call is admitted." in shown
    assert "any number" in shown
    assert "rotation" not in shown
    assert "limiter away" not in shown


def test_plans_are_listed_with_their_limits(stub: StubServer, run: CommandLine) -> None:
    """A tier is seen at one glance, each limit on its line."""
    found = [plan("enterprise"), plan("free", "a=1/s", "b=2/s@owner", max_keys_per_owner=5, rotate_every=days(30))]
    stub.will_answer(reply(plans_pb2.ListPlansResponse(plans=found, next_page_token="t")))
    result = run("plans", "list")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[:4] == [
        ["PLAN", "LIMITS", "KEYS/OWNER", "ROTATE", "AWAY"],
        ["enterprise", "none", "any", "-", "-"],
        ["free", "a=1/s", "5", "30d", "local"],
        ["b=2/s@owner"],
    ]
    assert "--page-token t" in result.stdout


def test_a_deleted_plan_is_gone(stub: StubServer, run: CommandLine) -> None:
    """It says so, in one word."""
    stub.will_answer(reply(plans_pb2.DeletePlanResponse()))
    assert run("plans", "delete", "starter", "--yes").stdout == "Deleted.\n"


def test_a_preview_says_how_many_and_how(stub: StubServer, run: CommandLine) -> None:
    """Before a tier is changed one sees whom it concerns."""
    found = plans_pb2.PreviewPlanResponse(
        keys=1, owners=2, affected_keys=1_234, sample_owner_ids=["cus_1", "cus_2"], is_default=True
    )
    stub.will_answer(reply(found), reply(plans_pb2.PreviewPlanResponse(affected_keys=1)))
    shown = run("plans", "preview", "free").stdout
    for part in ("free applies to 1,234 keys\n", "1 key\n", "2 owners\n", "by default", "cus_2"):
        assert part in shown
    assert run("plans", "preview", "free").stdout == "free applies to 1 key\n"


def test_a_simulation_says_what_would_have_been_denied(stub: StubServer, run: CommandLine) -> None:
    """How many of how many, by which limit, and whose; that calls were left out is a warning."""
    found = plans_pb2.SimulatePlanResponse(
        calls=12_345,
        denied=1_234,
        denied_by_limit={"daily": 34, "requests": 1_200},
        keys=[plans_pb2.SimulatedKey(key_id=KEY, owner_id="cus_42", calls=5_000, denied=1_100)],
        truncated=True,
    )
    stub.will_answer(reply(found))
    result = run("plans", "simulate", "free")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert result.stdout.startswith("✕ 1,234 of 12,345 calls would have been denied (10.0 %).")
    assert rows[3][:2] == ["requests", "1,200"]
    assert rows[4][:2] == ["daily", "34"]
    assert rows[7] == [KEY, "cus_42", "5,000", "1,100", "22.0", "%"]
    assert "left out" in result.stderr


@pytest.mark.parametrize(
    ("calls", "said"),
    ((0, "No calls were recorded in this time.\n"), (7, "● None of 7 calls would have been denied.\n")),
)
def test_a_simulation_without_denials_is_one_line(stub: StubServer, run: CommandLine, calls: int, said: str) -> None:
    """Nothing to show is said, not shown."""
    stub.will_answer(reply(plans_pb2.SimulatePlanResponse(calls=calls)))
    assert run("plans", "simulate", "free").stdout == said


def test_keys_owners_and_workspaces_show_their_plans(stub: StubServer, run: CommandLine) -> None:
    """Who looks at one sees which plan and which limits of its own it has."""
    limits = [limit("requests=100/min"), limit("daily=quota:5/day")]
    stub.will_answer(reply(keys_pb2.GetKeyResponse(key=sample_key(plan_id="pln_k", limits=limits))))
    shown = run("keys", "get", "key_x").stdout
    assert "pln_k" in shown
    assert "daily=quota:5/day" in shown
    owner = owners_pb2.Owner(owner_id="cus_42", plan_id="pln_o", entitled_plan_id="pln_e", limits=limits)
    stub.will_answer(reply(owners_pb2.GetOwnerResponse(owner=owner)))
    shown = run("owners", "get", "cus_42").stdout
    for part in ("pln_o", "pln_e, for ever", "requests=100/min"):
        assert part in shown
    owner.entitled_until.CopyFrom(in_seconds(86_400 * 2.5))
    stub.will_answer(reply(owners_pb2.GetOwnerResponse(owner=owner)))
    assert "(in 2 d 11 h)" in run("owners", "get", "cus_42").stdout
    workspace = workspaces_pb2.Workspace(id="wsp_x", brand="b", name="n", default_plan_id="pln_w")
    stub.will_answer(reply(workspaces_pb2.GetWorkspaceResponse(workspace=workspace)))
    assert "pln_w" in run("workspaces", "get").stdout


def test_a_limit_that_is_not_understood_is_pointed_at(stub: StubServer, run: CommandLine) -> None:
    """Nothing is sent; people see the place, and programs get the text in their object."""
    words = ("plans", "create", "x", "--limit", "requests=100/mn")
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.endswith("    requests=100/mn\n                 ^^\n")
    assert "requests=100/mn" in problem_in(run(*words, "--json"))["message"]
    assert stub.asked == []
