"""Build the HTTP door of a site."""

from __future__ import annotations

from vse.app.desk import SiteDesk
from vse.app.figures import upstream_figures
from vse.app.site import Site
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.files import DoorFiles
from vse.doors.http.serve import HttpServer, Middleware
from vse.model import Identity


def build_door(site: Site, middleware: Middleware | None = None) -> HttpServer:
    """Return the door of the settings, listening but not serving yet.

    It serves the files of ``doors.http.element`` (where left out, of the element that staged files go
    to) and every name of the site that its own process may see: one token is one identity, the service's.
    """
    settings = site.settings.doors.http
    element = site.elements.get(settings.element) if settings.element else site.destination
    driver, base = element.mounted()
    site.metrics.add(lambda: upstream_figures(site.lookup.states()))
    site.lookup.resume_refreshing()
    names = site.lookup_for(Identity.of_process())
    app = create_app(
        DoorAccess.from_settings(settings),
        DoorFiles(driver, base),
        names,
        element=element.name,
        metrics=site.metrics.text,
        whole=names,
        read=lambda lfn: site.noted.note(element.name, lfn),
        desk=SiteDesk(site),
    )
    return HttpServer(app, settings.host, settings.port, middleware)
