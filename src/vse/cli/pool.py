"""``vse pool``: storage elements that make room by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json, Limit, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, size, table
from vse.errors import BadRequest
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.pool import Tended
    from vse.staging.pool import PoolState, Round
    from vse.staging.pool_sync import Synced
    from vse.staging.replication import Asked

app = Commands(help="Storage elements that make room by themselves.")
_Name = Annotated[str, typer.Argument(help="Only this pool.", metavar="NAME")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command("show")
def show(context: typer.Context, name: _Name = "", as_json: Json = False) -> None:
    """Print how full the pools are, counting what is on its way.

    Examples:

      vse pool show

      vse pool show LOCAL --json
    """
    with open_site(context) as site:
        names = [site.elements.get(name).name] if name else site.pool.names
        states = [site.pool.state(one) for one in names]
    if as_json:
        emit_lines(map(_state_as_dict, states))
        return
    table(
        ("name", "size", "used", "full", "high", "low", "files", "kept for", "oldest read"),
        [
            (
                one.element,
                size(one.fill.total_bytes if one.fill else None),
                size(one.fill.used_bytes if one.fill else one.used.all_bytes),
                f"{one.fill.used_bytes / one.fill.total_bytes:.0%}" if one.fill else "-",
                f"{one.marks.high:.0%}",
                f"{one.marks.low:.0%}",
                str(one.used.files),
                size(one.used.reserved_bytes),
                moment(one.oldest_s),
            )
            for one in states
        ],
        right=(1, 2, 3, 4, 5, 6, 7),
    )
    if not states:
        err.print(
            "No storage element is a pool: add [pools.NAME] to vse.toml, with high and low.", markup=False
        )


@app.command("evict")
def evict(
    context: typer.Context,
    name: _Name = "",
    need: Annotated[
        str, typer.Option("--need", help="Make room for so much more, e.g. 2TB.", metavar="SIZE")
    ] = "0",
    dry_run: _DryRun = False,
    as_json: Json = False,
) -> None:
    """Make room now, where a pool is above its high watermark: the oldest go first.

    Never goes what is pinned, requested, being written or read, young, or the last copy.

    Examples:

      vse pool evict --dry-run

      vse pool evict LOCAL --need 500GB
    """
    from vse.app.pool import require_administrator

    need_bytes = bytes_of(need)
    with open_site(context) as site:
        if not dry_run:
            require_administrator(site, "throw files of a pool away")
        names = [site.elements.get(name).name] if name else site.pool.names
        rounds = [site.pool.evict(one, need_bytes, dry_run=dry_run) for one in names]
    if as_json:
        emit_lines(map(_round_as_dict, rounds))
        return
    for one in rounds:
        _show_round(one, dry_run=dry_run)


@app.command("sync")
def sync(
    context: typer.Context,
    name: _Name = "",
    check: Annotated[
        bool, typer.Option("--check", help="Ask the storage for every file, too; forget what it has lost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the accounts of the pools agree with the catalogue.

    Examples:

      vse pool sync

      vse pool sync LOCAL --check
    """
    from vse.app.pool import require_administrator, synchronise

    with open_site(context) as site:
        if check:
            require_administrator(site, "forget copies")
        names = [site.elements.get(name).name] if name else site.pool.names
        done = [(one, synchronise(site, one, check=check)) for one in names]
    if as_json:
        emit_lines({"name": one, **_synced_as_dict(synced)} for one, synced in done)
        return
    for one, synced in done:
        out.print(f"{one}: {_in_words(synced)}", markup=False)


@app.command("log")
def log(
    context: typer.Context,
    name: _Name = "",
    lfn: Annotated[str, typer.Option("--lfn", help="Only this file.", metavar="LFN")] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Print what was thrown away, when and why, newest first.

    Examples:

      vse pool log

      vse pool log --lfn /lhc/data/2026/dimuon_000.root
    """
    with open_site(context) as site:
        element = site.elements.get(name).name if name else ""
        rows = site.pool.log(element=element, lfn=lfn, limit=limit)
    if as_json:
        emit_lines(one._asdict() for one in rows)
        return
    table(
        ("when", "pool", "what", "size", "file", "why"),
        [
            (moment(one.when_s), one.element, one.state, size(one.size_bytes), one.lfn, one.reason)
            for one in rows
        ],
        right=(3,),
    )


@app.command("replicate")
def replicate(context: typer.Context, dry_run: _DryRun = False, as_json: Json = False) -> None:
    """Ask for copies of the files that are read often, as the settings say ([replication]).

    Example:

      vse pool replicate --dry-run
    """
    from vse.app.pool import require_administrator

    with open_site(context) as site:
        if not site.settings.replication.destinations:
            raise BadRequest(
                "copy what is read often",
                "the settings name no place for the copies",
                "add [replication] to vse.toml, with destinations",
            )
        if not dry_run:
            require_administrator(site, "ask for copies in the name of the site")
        asked = site.replication.run(dry_run=dry_run)
    if as_json:
        emit_json(_asked_as_dict(asked))
        return
    verb = "would be asked for" if dry_run else "asked for"
    for one, place in asked.plan.copies:
        out.print(
            f"{verb}: {one.lfn} at {place}, read {counted(one.reads, 'time')}, {size(one.size_bytes)}",
            markup=False,
        )
    for one, place in asked.plan.left_out:
        out.print(f"no budget left today: {one.lfn} at {place}, {size(one.size_bytes)}", markup=False)
    if not asked.plan.copies and not asked.plan.left_out:
        err.print("Nothing is read often enough and not there yet.", markup=False)


def bytes_of(text: str) -> int:
    """Return the bytes of an option such as ``2TB``; `BadRequest`."""
    from vse.model.sizes import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise BadRequest("understand the size", str(error)) from error


def tell(news: Tended) -> None:
    """Print news of the upkeep of pools, for `vse serve`."""
    from vse.app.pool import ClockJumped
    from vse.staging.pool import Round
    from vse.staging.pool_sync import Synced
    from vse.staging.replication import Asked

    what = news.what
    if isinstance(what, Round):
        for one in what.evicted:
            err.print(f"{news.element}: {one.state} {one.lfn}: {one.reason}", markup=False)
        if what.short_bytes:
            err.print(f"{news.element}: {size(what.short_bytes)} more should go, but must stay", markup=False)
    elif isinstance(what, Synced):
        err.print(f"{news.element}: {_in_words(what)}", markup=False)
    elif isinstance(what, Asked):
        files = counted(len(what.requests), "file that is read often is", "files that are read often are")
        err.print(f"{files} copied", markup=False)
    elif isinstance(what, ClockJumped):
        err.print(f"the clock was set by {what.by_s:.0f} s: no file is thrown away for now", markup=False)
    else:
        err.print(f"pool {news.element}: {what}", markup=False)


def _show_round(one: Round, *, dry_run: bool) -> None:
    if not one.goal_bytes:
        out.print(f"{one.element}: below its high watermark, nothing has to go", markup=False)
        return
    for gone in one.evicted:
        word = "would go" if dry_run else ("gone" if gone.state == "done" else gone.state)
        out.print(f"{word:9}{gone.lfn} ({size(gone.size_bytes)}): {gone.reason}", markup=False)
    for kept in one.kept:
        out.print(f"{'stays':9}{kept.file.lfn} ({size(kept.file.size_bytes)}): {kept.reason}", markup=False)
    out.print(
        f"{one.element}: {size(one.freed_bytes)} of {size(one.goal_bytes)} {'found' if dry_run else 'freed'}"
    )


def _in_words(synced: Synced) -> str:
    changed = (
        f"{counted(synced.added, 'file')} added, {synced.resized} resized, {synced.removed} removed, "
        f"{synced.vanished} forgotten that the storage has lost"
    )
    return f"{changed}; {counted(synced.after.files, 'file')}, {size(synced.after.size_bytes)}"


def _state_as_dict(one: PoolState) -> dict[str, Any]:
    return {
        "name": one.element,
        "total_bytes": one.fill.total_bytes if one.fill else None,
        "used_bytes": one.fill.used_bytes if one.fill else None,
        "high": one.marks.high,
        "low": one.marks.low,
        **one.used._asdict(),
        "oldest_s": one.oldest_s,
    }


def _round_as_dict(one: Round) -> dict[str, Any]:
    return {
        "name": one.element,
        "goal_bytes": one.goal_bytes,
        "freed_bytes": one.freed_bytes,
        "short_bytes": one.short_bytes,
        "evicted": [gone._asdict() for gone in one.evicted],
        "kept": [
            {"lfn": kept.file.lfn, "size_bytes": kept.file.size_bytes, "reason": kept.reason}
            for kept in one.kept
        ],
    }


def _synced_as_dict(synced: Synced) -> dict[str, Any]:
    return {**synced._asdict(), "before": synced.before._asdict(), "after": synced.after._asdict()}


def _asked_as_dict(asked: Asked) -> dict[str, Any]:
    def plain(some: Any) -> list[dict[str, Any]]:
        return [
            {"lfn": one.lfn, "destination": place, "reads": one.reads, "size_bytes": one.size_bytes}
            for one, place in some
        ]

    return {
        "copies": plain(asked.plan.copies),
        "left_out": plain(asked.plan.left_out),
        "requests": [one.id for one in asked.requests],
    }
