"""What the environment may say about the local Kafka."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LocalKafkaSettings(BaseSettings):
    """Where jars are kept and where they come from; read when a broker starts, never at import."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="ignore")

    cache_dir: Path | None = Field(
        default=None, description="Directory for downloads; by default `headrace` in the user's cache directory."
    )
    maven_repository: str | None = Field(
        default=None, description="URL of a mirror of Maven Central; by default Maven Central itself."
    )
    xdg_cache_home: Path | None = Field(
        default=None,
        validation_alias="XDG_CACHE_HOME",
        description="The user's cache directory, as the desktop says; by default `~/.cache`.",
    )

    @property
    def cache(self) -> Path:
        """The directory for downloads; it need not exist yet."""
        return self.cache_dir or (self.xdg_cache_home or Path.home() / ".cache") / "headrace"
