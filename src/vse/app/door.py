"""Build the HTTP door of a site."""

from __future__ import annotations

from vse.app.site import Site
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.doors.http.files import DoorFiles
from vse.doors.http.serve import HttpServer, Middleware


def build_door(site: Site, middleware: Middleware | None = None) -> HttpServer:
    """Return the door of the settings, listening but not serving yet.

    It serves the files of ``doors.http.element`` (where left out, of the element that staged files go
    to) and every name of the site.
    """
    settings = site.settings.doors.http
    element = site.elements.get(settings.element) if settings.element else site.destination
    driver, base = element.mounted()
    app = create_app(
        DoorAccess.from_settings(settings), DoorFiles(driver, base), site.lookup, element=element.name
    )
    return HttpServer(app, settings.host, settings.port, middleware)
