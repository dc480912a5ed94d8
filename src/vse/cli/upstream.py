"""``vse upstream``: the catalogues behind this one, and what they are still to be told."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, table
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.catalogue.registrations import Registration
    from vse.catalogue.upstream_states import UpstreamState

app = Commands(
    help="Catalogues elsewhere: which there are, how they answer, what they are told of.",
)

Name = Annotated[str | None, typer.Argument(help="An upstream of the settings; all of them if left out.")]


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """Show the upstream catalogues of the settings.

    Examples:

      vse upstream list

      vse upstream list --json
    """
    with open_site(context) as site:
        counts = site.registrations.counts() if site.settings.upstreams else {}
        states = {state.name: state for state in site.lookup.states()}
        rows = []
        for name, settings in site.settings.upstreams.items():
            rows.append(
                {
                    "upstream": name,
                    "type": settings.type,
                    "url": settings.url,
                    "register_replicas": settings.register_replicas,
                    "registrations": {str(state): count for state, count in counts.get(name, {}).items()},
                    **_fares(states.get(name), site.clock()),
                }
            )
        if as_json:
            emit_lines(rows)
            return
        table(("upstream", "type", "url", "told of copies here", "how it fares"), map(_row, rows))
        if not rows:
            err.print("No upstreams. See docs/connect-an-upstream.md.", markup=False)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    told = ", ".join(f"{count} {state}" for state, count in row["registrations"].items())
    told = told or ("yes" if row["register_replicas"] else "no")
    return row["upstream"], row["type"], row["url"], told, row["summary"] or "never asked"


def _fares(state: UpstreamState | None, now_s: float) -> dict[str, Any]:
    """Return how an upstream fares over the life of the site, as ``--json`` shows it."""
    from vse.app.figures import upstream_summary

    if state is None:
        return {"summary": ""}
    return {
        "hits": state.hits,
        "misses": state.misses,
        "hit_rate": state.hit_rate,
        "stale": state.stale,
        "queries": state.queries,
        "failed_queries": state.failed,
        "waited_s": state.waited_s,
        "failures": state.failures,
        "not_before_s": state.not_before_s,
        "error": None if state.error is None else state.error.to_dict(),
        "summary": upstream_summary(state, now_s),
    }


@app.command()
def registrations(
    context: typer.Context,
    upstream: Name = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Those that are done, too.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many; 0 for all.", min=0, metavar="N")] = 100,
    as_json: Json = False,
) -> None:
    """Show the copies made here that upstreams are still to be told of, and why one refused.

    Examples:

      vse upstream registrations

      vse upstream registrations far --all --limit 0 --json
    """
    from vse.catalogue.registrations import RegistrationState

    states = tuple(RegistrationState)
    if not all_of_them:
        states = (RegistrationState.QUEUED, RegistrationState.FAILED)
    with open_site(context) as site:
        _check(site, upstream)
        found = site.registrations.list(upstream, states)
        shown = islice(found, limit) if limit else found
        if as_json:
            emit_lines(map(_as_dict, shown))
            return
        table(("upstream", "state", "tried", "next", "at", "file", "why"), map(_line, shown))
        if limit and next(found, None) is not None:
            err.print(f"There are more than these {limit}: --limit 0 shows all.", markup=False)


def _as_dict(one: Registration) -> dict[str, Any]:
    return {
        "upstream": one.upstream,
        "lfn": one.lfn,
        "se": one.se,
        "state": str(one.state),
        "failures": one.failures,
        "not_before_s": one.not_before_s,
        "created_s": one.created_s,
        "finished_s": one.finished_s,
        "error": None if one.error is None else one.error.to_dict(),
    }


def _line(one: Registration) -> tuple[str, ...]:
    waits = moment(one.not_before_s) if one.finished_s is None else "-"
    why = "" if one.error is None else str(one.error)
    return one.upstream, str(one.state), str(one.failures), waits, one.se, one.lfn, why


@app.command()
def retry(context: typer.Context, upstream: Name = None, as_json: Json = False) -> None:
    """Tell upstreams at once of what failed or waits out a pause.

    Examples:

      vse upstream retry

      vse upstream retry far
    """
    with open_site(context) as site:
        _check(site, upstream)
        queued = site.registrations.retry(upstream, site.clock())
        told = site.registrar.drain() if queued else 0
        if as_json:
            emit_json({"queued": queued, "told": told})
        else:
            out.print(f"{told} of {counted(queued, 'copy', 'copies')} told")
        if told < queued:
            if not as_json:
                err.print("Why not the others: vse upstream registrations", markup=False)
            raise typer.Exit(9)


def _check(site: Site, upstream: str | None) -> None:
    from vse.errors import BadRequest

    if upstream is not None and upstream not in site.settings.upstreams:
        known = ", ".join(site.settings.upstreams) or "none"
        raise BadRequest(
            f"use the upstream {upstream!r}", "the settings have none of that name", f"known: {known}"
        )
