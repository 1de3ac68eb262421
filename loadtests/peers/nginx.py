"""nginx from the Debian package, as a process of our own with a generated configuration. No features: the limit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.peers.base import ENVIRONMENTS, Place, Start, Unavailable, run_installer

_CONFIG = """\
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    upstream worker {{
        server {worker};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


class Nginx:
    name = "nginx"
    streams = 500
    processes = 1

    def install(self) -> None:
        if self._binary() is not None:
            return
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise Unavailable("nginx is not installed, and this is no Debian to take its package from")
        home = ENVIRONMENTS / "nginx"
        home.mkdir(parents=True, exist_ok=True)
        run_installer(
            ["sh", "-c", f"cd '{home}' && apt-get -qq download nginx && dpkg -x nginx_*.deb . && rm nginx_*.deb"]
        )
        if self._binary() is None:
            raise Unavailable("its package holds no usr/sbin/nginx")

    def start(self, place: Place) -> Start:
        binary = self._binary()
        assert binary is not None
        config = place.directory / "nginx.conf"
        worker = urlsplit(place.worker_url).netloc
        user = "user root;" if os.getuid() == 0 else ""
        config.write_text(_CONFIG.format(directory=place.directory, worker=worker, port=place.port, user=user))
        return Start([binary, "-p", place.directory, "-c", config])

    def _binary(self) -> Path | None:
        places = (Path("/usr/sbin/nginx"), ENVIRONMENTS / "nginx" / "usr" / "sbin" / "nginx")
        return next((path for path in places if path.exists()), None)
