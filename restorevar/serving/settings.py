"""A service in plain values: may be sent to another process, which makes the engine and the application there.

settings = Settings(model="compact"); engine = settings.engine(); app = settings.app(engine)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..errors import UserError
from .limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .engine import Engine
    from .jobs import JobLimits


@dataclass(frozen=True)
class Settings:
    """What `restorevar serve` is told. Raises UserError, when something is made of them, for what cannot be.

    model ... speed   as `Restorer.from_pretrained`
    keys              that open the API; none: open to everyone
    jobs              folder of the jobs; None: there are none; job_limits: how much they may take
    page              whether the web page is there
    hosts             names under which the service may be asked for; None: any
    drain             seconds in which what was taken is finished at the end
    """

    model: str = "compact"
    device: str = "auto"
    dtype: str = "auto"
    tile: int | Literal["auto"] = "auto"
    batch: int | Literal["auto"] = "auto"
    fidelity: float | None = None
    speed: str = "auto"
    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    jobs: str | None = None
    job_limits: JobLimits | None = None
    page: bool = True
    hosts: tuple[str, ...] | None = None
    drain: float = 60.0

    def engine(self) -> Engine:
        """Loads the model."""
        from ..diagnosis import diagnose
        from ..pipeline import Restorer
        from .engine import Engine

        restorer = Restorer.from_pretrained(
            self.model,
            self.device,
            self.dtype,
            tile=self.tile,
            batch=self.batch,
            fidelity=self.fidelity,
            speed=self.speed,
        )
        return Engine(restorer, self.limits, diagnose)

    def app(self, engine: Engine) -> FastAPI:
        """The application around an engine; with it ends the engine, and the store of the jobs."""
        require_extra()
        from .app import create_app

        store = None
        if self.jobs is not None:
            from .jobs import JobStore

            store = JobStore(self.jobs, self.job_limits)
        return create_app(engine, self.keys, store, self.page, self.hosts, self.drain)


def require_extra() -> None:
    """Raises UserError unless what the service is made of is installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"the service needs {error.name}: pip install 'restorevar[serve]'") from None
