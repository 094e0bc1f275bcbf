"""`truthgpt up` and `truthgpt demo`: start a whole server with one command and prove that it works."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from honcho.printer import Printer

from cli.demo import how_to_go_on, run_demo
from cli.login import Login, pass_login
from cli.serving.processes import MOST_WORKERS
from cli.serving.server import Options, Server
from cli.serving.supervisor import Supervisor
from client import ApiError, Client, ClientError, ConnectionFailed

LAST_LINES = 30
PATIENCE = 180.0


@click.command(short_help="Start everything, with a Redis of its own if need be.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    envvar="PORT",
    show_envvar=True,
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Default: ~/.truthgpt.")
@click.option("--config", type=click.Path(path_type=Path), help="The model catalogue (YAML).")
@click.option("--flower/--no-flower", default=True, show_default=True)
@click.option(
    "--flower-port",
    type=click.IntRange(0, 65535),
    default=5555,
    show_default=True,
    envvar="FLOWER_PORT",
    show_envvar=True,
)
@click.option(
    "--api-workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    show_default=True,
    envvar="WEB_CONCURRENCY",
    show_envvar=True,
)
@click.option("--demo", is_flag=True, help="When ready, run one job per model, then keep serving.")
def up(
    host: str,
    port: int,
    state_dir: Path | None,
    config: Path | None,
    flower: bool,
    flower_port: int,
    api_workers: int,
    demo: bool,
) -> None:
    """Start everything: the API, a worker per model, Flower and, without REDIS_URL, a Redis."""
    options = Options(
        host=host,
        port=port,
        flower_port=flower_port if flower else None,
        state_dir=state_dir,
        config=config,
        api_workers=api_workers,
    )
    server = Server(options)
    server.run(_demo_beside(server) if demo else None)


def _demo_beside(server: Server) -> Callable[[Supervisor], None]:
    """The demo while the server serves: its log waits, so that the two do not mix."""

    def show(supervisor: Supervisor) -> None:
        supervisor.hold()
        try:
            with server.client() as client:
                run_demo(client)
                click.echo(how_to_go_on(server.url, client.models()))
        except (ClientError, TimeoutError) as error:
            supervisor.say(f"the demo failed: {error}")
        finally:
            supervisor.release()

    return show


@click.command(short_help="Run one job per model of a running server, or of a new one.")
@pass_login
def demo(login: Login) -> None:
    """Run one job per model on the running server, or on one started for it alone."""
    with login.client() as client:
        if login.explicit or _serves(client):
            run_demo(client)
            click.echo(how_to_go_on(client.base_url, client.models()))
            return
    click.echo(f"No server at {login.url}; starting one for this demo.")
    _demo_alone()


def _serves(client: Client) -> bool:
    """Whether a server of ours, ready or not, is behind the default address."""
    try:
        client.ready()
    except (ConnectionFailed, ApiError):
        return False
    return True


def _demo_alone() -> None:
    outcome = "the server did not become ready"
    with tempfile.TemporaryDirectory(prefix="truthgpt-demo-") as folder:
        log = Path(folder) / "server.log"

        def show(supervisor: Supervisor) -> None:
            nonlocal outcome
            try:
                with server.client() as client:
                    run_demo(client)
                outcome = ""
            except (ClientError, TimeoutError) as error:
                outcome = str(error)
            finally:
                supervisor.stop()

        with log.open("w", encoding="utf-8") as output:
            options = Options(port=0, flower_port=None, state_dir=Path(folder), own_redis=True)
            server = Server(options, printer=Printer(output))
            server.run(show, patience=PATIENCE)
        if outcome:
            for line in log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]:
                click.echo(line, err=True)
            raise click.ClickException(f"the demo failed: {outcome}")
