"""What people and programs see of usage: totals, charts, ranks, single calls, streams that go on."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.cli.painting import paint
from keystead.cli.usage.calls import narrow_table, wide_table
from keystead.cli.usage.rendering import number, percent, took
from keystead.gen.v1 import entitlements_pb2, keys_pb2, usage_pb2, verification_pb2
from tests.unit.cli.conftest import CommandLine, in_seconds, problem_in
from tests.unit.cli.stub_server import Answer, StubServer, refusal, reply, stream

KEY = "key_01hzxsample000000000000000"
SPAN = ("--from", "2026-03-01", "--to", "2026-03-02")
Code = verification_pb2.VerifyKeyResponse.Code


def moment(text: str) -> Timestamp:
    """Read a time."""
    made = Timestamp()
    made.FromJsonString(text)
    return made


def milliseconds(count: int) -> Duration:
    """Make a duration."""
    made = Duration()
    made.FromMilliseconds(count)
    return made


def series(group: str, *calls: int, latency_ms: int = 0) -> usage_pb2.UsageSeries:
    """Make a group's hours from midnight on; hours without calls are left out, as the server does."""
    made = usage_pb2.UsageSeries(group=group)
    for hour, count in enumerate(calls):
        if count:
            point = made.points.add(begins_at=moment(f"2026-03-01T{hour:02}:00:00Z"), calls=count, cost=2 * count)
            point.outcomes, point.errors = count // 2, count // 10
            if latency_ms:
                point.latency.p50.CopyFrom(milliseconds(latency_ms))
    return made


def queried(*found: usage_pb2.UsageSeries) -> Answer:
    """Answer with series."""
    return reply(usage_pb2.QueryUsageResponse(series=found, complete_until=in_seconds(-2)))


def call(number_of_call: int, **more: object) -> usage_pb2.UsageCall:
    """Make a call."""
    made = usage_pb2.UsageCall(
        verification_id=f"ver_{number_of_call}",
        called_at=moment("2026-03-01T10:20:30.456Z"),
        key_id=KEY,
        secret_id="sec_x",
        owner_id="cus_42",
        environment=keys_pb2.Key.LIVE,
        code=Code.VALID,
        operation="list-invoices",
        client_ip="203.0.113.7",
        cost=1,
        tags=["a", "b"],
    )
    made.MergeFrom(usage_pb2.UsageCall(**more))  # type: ignore[arg-type]  # the fields are the test's to choose
    return made


def test_a_chart_shows_hours_without_calls_as_nothing(stub: StubServer, run: CommandLine) -> None:
    """Gaps are gaps: the hours between two with calls stand empty, and the sum below is that of all points."""
    stub.will_answer(queried(series("", 0, 10, 0, 0, 1_000)))
    lines = run("usage", "show", *SPAN).stdout.splitlines()
    assert lines[0].startswith("Calls  since 2026-03-01 00:00 UTC, in hours")
    floor = next(line for line in lines if "└" in line)
    lowest = lines[lines.index(floor) - 1]
    assert lowest[floor.index("└") + 1 :] == "   ▁▁       ██"
    assert "1,010 calls, cost 2,020, 20.0 % errors of 505 reported" in lines
    assert "Peak 1,000 in the hour of 2026-03-01 04:00" in lines
    assert all(len(line) <= 80 for line in lines)


def test_groups_are_a_line_each_the_largest_first(stub: StubServer, run: CommandLine) -> None:
    """Each group has its sum, its share of everything, its largest hour and a picture; nameless ones have a name."""
    stub.will_answer(queried(series("b", 30, 0, 45), series("", 20), series("a", 5)))
    rows = [line.split() for line in run("usage", "show", *SPAN, "--by", "operation").stdout.splitlines()[2:6]]
    assert rows[0] == ["OPERATION", "CALLS", "SHARE", "PEAK/HOUR", "OVER", "TIME"]
    assert rows[1][:5] == ["b", "75", "75.0", "%", "45"]
    assert rows[2][:6] == ["(no", "name)", "20", "20.0", "%", "20"]
    assert rows[3][:5] == ["a", "5", "5.0", "%", "5"]
    assert rows[1][5][:4] == "▆▁█▁"


def test_attempts_without_a_key_have_a_name(stub: StubServer, run: CommandLine) -> None:
    """What failed before a key was found is told as such, in whatever is ranked by key or owner."""
    stub.will_answer(reply(usage_pb2.TopUsageResponse(totals=[usage_pb2.UsageTotal(group="", calls=9)])))
    assert run("usage", "top").stdout.splitlines()[1].startswith("(no key found)  9 ")


def test_labels_have_no_share(stub: StubServer, run: CommandLine) -> None:
    """A call with two labels counts in both groups, so shares would add up to more than everything."""
    stub.will_answer(queried(series("red", 5), series("blue", 5)))
    assert "SHARE" not in run("usage", "show", *SPAN, "--by", "tag").stdout


def test_groups_fit_on_a_screen(stub: StubServer, run: CommandLine) -> None:
    """Whole ids and large numbers leave room for a picture within 80 columns, in both kinds of table."""
    group = "key_01hzxsample00000000000000"
    total = usage_pb2.UsageTotal(group=group, calls=98_765_432, cost=98_765_432, outcomes=9, errors=1)
    stub.will_answer(queried(series(group, *[9_876_543] * 24)), reply(usage_pb2.TopUsageResponse(totals=[total])))
    for words in (("show", *SPAN, "--by", "key"), ("top",)):
        lines = run("usage", *words).stdout.splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert any("█" in line and group in line for line in lines)


def test_many_groups_are_summed_in_one_line(stub: StubServer, run: CommandLine) -> None:
    """What has no line of its own is not lost: the last line holds the rest."""
    stub.will_answer(queried(*(series(f"owner-{count:02}", count) for count in range(1, 31))))
    lines = run("usage", "show", *SPAN, "--by", "owner").stdout.splitlines()
    (rest,) = [line for line in lines if line.startswith("(10 more)")]
    assert rest.split()[2] == str(sum(range(1, 11)))


def test_one_key_has_its_totals_above_its_chart(stub: StubServer, run: CommandLine) -> None:
    """Verdicts, errors, latency, and who used it last, from where and for what."""
    totals = usage_pb2.GetKeyUsageResponse(
        calls=1_200,
        admitted=1_190,
        denied=10,
        by_code={"VALID": 1_190, "RATE_LIMITED": 7, "EXPIRED": 3},
        cost=2_400,
        denial_rate=10 / 1_200,
        outcomes=400,
        errors=2,
        error_rate=0.005,
        last_used_at=in_seconds(-190),
        last_used_ip="203.0.113.7",
        last_operation="list-invoices",
    )
    totals.latency.p50.CopyFrom(milliseconds(12))
    totals.latency.p99.CopyFrom(milliseconds(1_234))
    stub.will_answer(reply(totals), queried(series("", 1_200)))
    text = run("usage", "show", KEY, *SPAN).stdout
    words = (
        "1,190 (99.2 %)",
        "10 (0.8 %)",
        "7 rate_limited\n",
        "2 (0.5 %) of 400 reported",
        "half within 12 ms, 99 % within 1.23 s",
        "3 min ago) from 203.0.113.7 for list-invoices",
    )
    assert [word for word in words if word not in text] == []
    assert text.index("last used") < text.index("┤")
    assert [asked.method for asked in stub.asked] == ["GetKeyUsage", "QueryUsage"]
    assert stub.asked[0].body == {"keyId": KEY, "from": "2026-03-01T00:00:00.000Z", "to": "2026-03-02T00:00:00.000Z"}
    assert stub.asked[1].body["filter"] == {"keyId": KEY}


def test_one_key_as_json_is_one_object(stub: StubServer, run: CommandLine) -> None:
    """A program gets the totals and the series in one object."""
    stub.will_answer(reply(usage_pb2.GetKeyUsageResponse(calls=3)), queried(series("", 3)))
    found = json.loads(run("usage", "show", KEY, *SPAN, "--json").stdout)
    assert (number(found["totals"]["calls"]), number(found["series"][0]["points"][0]["calls"])) == (3, 3)


def test_a_key_that_was_never_used_says_so(stub: StubServer, run: CommandLine) -> None:
    """No chart is drawn of nothing, and the totals say never."""
    stub.will_answer(reply(usage_pb2.GetKeyUsageResponse()), queried())
    result = run("usage", "show", KEY, *SPAN)
    assert "last used  never" in result.stdout
    assert "No calls match." in result.stderr
    assert "┤" not in result.stdout


def test_large_counts_are_read_as_numbers_or_texts() -> None:
    """JSON of 64 bits is a text, or a number where it is small; both mean the same."""
    assert [number(value) for value in (7, "18446744073709551615", "", None, "0")] == [7, 2**64 - 1, 0, 0, 0]


def test_a_series_as_csv(stub: StubServer, run: CommandLine) -> None:
    """A heading, a line for each point, line ends as RFC 4180 has them, latency in milliseconds."""
    stub.will_answer(queried(series('a,"b"', 4, latency_ms=12), series("c", 0, 7)))
    result = run("usage", "show", *SPAN, "--by", "operation", "--csv")
    assert result.stdout_bytes.count(b"\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["group"], row["begins_at"], row["calls"], row["latency_p50_ms"]) for row in rows] == [
        ('a,"b"', "2026-03-01T00:00:00Z", "4", "12"),
        ("c", "2026-03-01T01:00:00Z", "7", ""),
    ]


def test_the_top_has_bars_in_proportion(stub: StubServer, run: CommandLine) -> None:
    """The first has the longest bar; errors are a share of what was reported."""
    totals = [
        usage_pb2.UsageTotal(group="cus_1", calls=2_000, cost=2_000, outcomes=10, errors=1),
        usage_pb2.UsageTotal(group="cus_2", calls=1_000, cost=1_500),
    ]
    stub.will_answer(
        reply(usage_pb2.TopUsageResponse(totals=totals)),
        reply(usage_pb2.TopUsageResponse(totals=totals)),
        reply(usage_pb2.TopUsageResponse()),
    )
    rows = run("usage", "top", "--by", "owner").stdout.splitlines()
    assert rows[1].split()[:5] == ["cus_1", "2,000", "2,000", "10.0", "%"]
    assert rows[1].count("█") == 2 * rows[2].count("█") > 10
    rows = run("usage", "top", "--by", "owner", "--csv").stdout.splitlines()
    assert rows == ["group,calls,cost,outcomes,errors", "cus_1,2000,2000,10,1", "cus_2,1000,1500,0,0"]
    assert run("usage", "top").stderr.startswith("No calls match.")


def test_calls_are_listed_with_how_they_ended(stub: StubServer, run: CommandLine) -> None:
    """A pipe has one line for each call: when, which key, verdict, operation, address, status, latency, cost."""
    ended = call(1, http_status=503, latency=milliseconds(12))
    stub.will_answer(reply(usage_pb2.ListCallsResponse(calls=[ended, call(2)])))
    lines = run("usage", "calls").stdout.splitlines()
    assert lines[1].split() == [
        "2026-03-01", "10:20:30", KEY, "valid", "list-invoices", "203.0.113.7", "503", "12", "ms", "1",
    ]  # fmt: skip
    assert lines[2].split()[6:] == ["-", "-", "1"]


@pytest.mark.parametrize("columns", (80, 140))
def test_calls_fit_on_a_screen(
    stub: StubServer, run: CommandLine, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """At 80 columns a call takes two lines, at 140 one; no line is longer and no id is broken."""
    worst = call(1, client_ip="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", code=Code.INSUFFICIENT_SCOPE, http_status=200)
    stub.will_answer(reply(usage_pb2.ListCallsResponse(calls=[worst])))
    found = json.loads(run("usage", "calls", "--json").stdout)["calls"]
    paint([narrow_table(found) if columns == 80 else wide_table(found)], columns=columns, terminal=False)
    text = capsys.readouterr().out
    assert all(len(line) <= columns for line in text.splitlines())
    assert KEY in text
    assert "2026-03-01 10:20:30" in text


def test_calls_are_fetched_until_there_are_enough(stub: StubServer, run: CommandLine) -> None:
    """`--limit` asks page by page for no more than is shown, within one and the same time, and says there are more."""
    stub.will_answer(*_pages((1_000, "t1"), (500, "t2")))
    result = run("usage", "calls", "--limit", "1500", "--json")
    assert len(json.loads(result.stdout)["calls"]) == 1_500
    assert [(asked.body["pageSize"], asked.body.get("pageToken")) for asked in stub.asked] == [
        (1_000, None),
        (500, "t1"),
    ]
    assert len({asked.body["from"] for asked in stub.asked}) == 1
    stub.will_answer(*_pages((1, "t")))
    assert "There are more than these 1" in run("usage", "calls", "--limit", "1").stderr


def test_every_call_as_csv_into_a_file(stub: StubServer, run: CommandLine, tmp_path: Path) -> None:
    """`--all --csv --output` writes every page; labels are one field, and the screen stays empty."""
    stub.will_answer(*_pages((2, "t1"), (1, "")))
    path = tmp_path / "calls.csv"
    result = run("usage", "calls", "--all", "--csv", "--output", str(path))
    assert (result.exit_code, result.output) == (0, "")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [(row["verification_id"], row["tags"], row["http_status"]) for row in rows] == [
        ("ver_0", "a b", ""), ("ver_1", "a b", ""), ("ver_0", "a b", ""),
    ]  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["calls.csv"]


def _pages(*pages: tuple[int, str]) -> list[Answer]:
    return [
        reply(usage_pb2.ListCallsResponse(calls=[call(index) for index in range(count)], next_page_token=token))
        for count, token in pages
    ]


def test_a_file_is_whole_or_as_it_was(stub: StubServer, run: CommandLine, tmp_path: Path) -> None:
    """When a later page fails, the file keeps what it held, and no piece is left beside it."""
    path = tmp_path / "calls.csv"
    path.write_text("before", encoding="utf-8")
    path.chmod(0o640)
    stub.will_answer(*_pages((2, "t1")), refusal("not_found", "gone", status=404, reason="NOT_FOUND"))
    assert run("usage", "calls", "--all", "--csv", "--output", str(path)).exit_code == 1
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]
    stub.will_answer(*_pages((2, "")))
    assert run("usage", "calls", "--all", "--csv", "--output", str(path)).exit_code == 0
    assert path.read_text(encoding="utf-8") != "before"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ("missing/calls.csv", "calls.json"))
def test_a_picture_or_json_goes_to_a_file_too(stub: StubServer, run: CommandLine, tmp_path: Path, name: str) -> None:
    """`--output` takes whatever would be printed; a file that cannot be made is a refusal, not a traceback."""
    stub.will_answer(queried(series("", 5)))
    path = tmp_path / name
    result = run("usage", "show", *SPAN, "--output", str(path), "--json")
    if path.parent.exists():
        assert json.loads(path.read_text(encoding="utf-8"))["series"]
    else:
        assert (result.exit_code, problem_in(result)["code"]) == (1, "NOT_WRITTEN")
    stub.will_answer(queried(series("", 5)))
    picture = tmp_path / "picture.txt"
    run("usage", "show", *SPAN, "--output", str(picture))
    assert "┤" in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    (
        ("show", "--csv", "--json"),
        ("top", "--csv", "--json"),
        ("calls", "--csv", "--json"),
        ("calls", "--all", "--limit", "3"),
        ("show", "--time-zone", "Europe/Atlantis"),
        ("show", "--time-zone", "../../etc/passwd"),
        ("show", "--by", "colour"),
    ),
)
def test_a_mistake_asks_the_server_nothing(stub: StubServer, run: CommandLine, words: Sequence[str]) -> None:
    """Words that contradict each other, and names that do not exist, end before anything is sent."""
    assert run("usage", *words).exit_code == 2
    assert stub.asked == []


def test_unused_grants_are_told(stub: StubServer, run: CommandLine) -> None:
    """An idle key is told from a key with scopes that nobody asks for."""
    grants = [
        usage_pb2.UnusedGrant(key_id="key_a", owner_id="cus_1", name="A", environment=keys_pb2.Key.LIVE, idle=True),
        usage_pb2.UnusedGrant(
            key_id="key_b",
            owner_id="cus_2",
            name="B",
            environment=keys_pb2.Key.TEST,
            scopes=["write:a", "write:b"],
            last_used_at=in_seconds(-185),
        ),
    ]
    stub.will_answer(
        reply(usage_pb2.ListUnusedGrantsResponse(grants=grants)), reply(usage_pb2.ListUnusedGrantsResponse())
    )
    rows = [line.split("  ") for line in run("usage", "unused").stdout.splitlines()]
    assert rows[1][0] == "the whole key"
    assert rows[1][-1].strip() == "never"
    assert (rows[2][0], rows[2][-1].strip()) == ("write:a, write:b", "3 min ago")
    assert run("usage", "unused").stderr.startswith("No keys have anything unused")


def test_reconciling_says_by_its_exit_whether_sums_agree(stub: StubServer, run: CommandLine) -> None:
    """0 when everything used was acknowledged once, 1 when not, with the difference and its sign."""
    meters = [
        entitlements_pb2.ReconciledMeter(
            owner_id="cus_1", environment=keys_pb2.Key.LIVE, meter="calls", used=1_000, acknowledged=990, pending=10
        ),
        entitlements_pb2.ReconciledMeter(
            owner_id="cus_2", environment=keys_pb2.Key.LIVE, meter="calls", used=5, acknowledged=6
        ),
    ]
    differing = entitlements_pb2.ReconcileUsageResponse(meters=meters, pending_events=2)
    equal = entitlements_pb2.ReconcileUsageResponse(equal=True)
    for answer in (differing, equal):
        getattr(answer, "from").CopyFrom(moment("2026-03-01T00:00:00Z"))
        answer.to.CopyFrom(moment("2026-03-02T00:00:00Z"))
    stub.will_answer(reply(differing), reply(equal), reply(differing))
    result = run("usage", "reconcile")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert (rows[1][-4:], rows[2][-1]) == (["1,000", "990", "10", "-10"], "+1")
    assert "Not equal, from 2026-03-01 00:00:00 to 2026-03-02 00:00:00 UTC. 2 events wait" in result.stdout
    result = run("usage", "reconcile")
    assert (result.exit_code, result.stdout.startswith("Equal")) == (0, True)
    assert run("usage", "reconcile", "--json").exit_code == 1


def tailed(*calls: usage_pb2.UsageCall, until: str = "2026-03-01T10:20:31Z") -> usage_pb2.TailCallsResponse:
    """Make a message of a stream."""
    return usage_pb2.TailCallsResponse(calls=calls, complete_until=moment(until))


UNAVAILABLE = {"error": {"code": "unavailable", "message": "The server stops."}}


def test_a_stream_is_printed_call_by_call(stub: StubServer, run: CommandLine) -> None:
    """Each call is a line as it comes; with --json an object on a line; `--limit` ends it in good order."""
    stub.will_answer(*[stream([tailed(call(1)), tailed(), tailed(call(2, cost=4), call(3))], {})] * 2)
    result = run("usage", "tail", "--limit", "2", "--key", KEY)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"10:20:30  {KEY}  valid  list-invoices  203.0.113.7",
        f"10:20:30  {KEY}  valid  list-invoices  203.0.113.7  cost 4",
    ]
    lines = run("usage", "tail", "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["verificationId"] for line in lines] == ["ver_1", "ver_2"]
    assert stub.asked[0].body == {"filter": {"keyId": KEY}}
    assert "connect-timeout-ms" not in stub.asked[0].headers


@pytest.mark.parametrize("end", (None, UNAVAILABLE, {}), ids=("cut off", "unavailable", "ended"))
def test_a_stream_that_breaks_goes_on_where_it_was(
    stub: StubServer, run: CommandLine, end: dict[str, object] | None
) -> None:
    """The next stream is asked for from the moment up to which all was told, and no call is shown twice."""
    stub.will_answer(
        stream([tailed(call(1), call(2))], end), stream([tailed(call(2), call(3), until="2026-03-01T10:20:40Z")], {})
    )
    result = run("usage", "tail", "--limit", "3", "--json")
    assert [json.loads(line)["verificationId"] for line in result.stdout.splitlines()] == ["ver_1", "ver_2", "ver_3"]
    assert [asked.body.get("from") for asked in stub.asked] == [None, "2026-03-01T10:20:31Z"]


def test_a_stream_that_never_begins_is_an_error(stub: StubServer, run: CommandLine) -> None:
    """A refusal is told at once, with its reason; a server that is away is not waited for."""
    refused = {"error": {"code": "permission_denied", "message": "no"}}
    stub.will_answer(stream([], refused), stream([], UNAVAILABLE))
    assert [run("usage", "tail", "--json").exit_code for _ in range(2)] == [4, 3]
    assert run("usage", "tail", KEYSTEAD_URL="http://127.0.0.1:1").exit_code == 3


@pytest.mark.parametrize(
    "body",
    (b"\x01\x00\x00\x00\x02{}", b"\x00\xff\xff\xff\xff", b"\x00\x00\x00\x00\x02[]", b"\x00\x00\x00\x00\x02{{", b"\x00"),
    ids=("compressed", "huge", "a list", "no JSON", "cut off"),
)
def test_a_broken_frame_is_an_error(stub: StubServer, run: CommandLine, body: bytes) -> None:
    """What is no frame that was asked for ends the command with a sentence."""
    stub.will_answer(Answer(body, headers={"content-type": "application/connect+json"}))
    result = run("usage", "tail", "--json")
    assert (result.exit_code, problem_in(result)["code"]) == (3, "UNREACHABLE")


def test_a_proxy_that_answers_a_stream_is_told(stub: StubServer, run: CommandLine) -> None:
    """An answer that is no stream is not read as one."""
    stub.will_answer(Answer(b"<html>", status=404, headers={"content-type": "text/html"}))
    result = run("usage", "tail", "--json")
    assert (result.exit_code, problem_in(result)["code"]) == (3, "NOT_KEYSTEAD")


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    (
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 100_000, "<0.1 %"),
        (99_999, 100_000, ">99.9 %"),
        (1, 3, "33.3 %"),
        (1, 0, "-"),
    ),
)
def test_a_share_never_looks_like_all_or_nothing(part: int, whole: int, said: str) -> None:
    """One error among a hundred thousand calls is not none."""
    assert percent(part, whole) == said


@pytest.mark.parametrize(
    ("text", "said"),
    (("0.000250s", "0.2 ms"), ("0.012s", "12 ms"), ("1.234s", "1.23 s"), ("75s", "75 s"), (None, "-"), ("soon", "-")),
)
def test_a_latency_is_short(text: str | None, said: str) -> None:
    """Three digits say how long an answer took."""
    assert took(text) == said
