"""The backends that a config may name: `{kind: openai, base_url: …}` or `{kind: transformers, model: …}`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from annotators.vlm.backend import Backend
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.transformers_settings import TransformersSettings

BackendSettings = Annotated[OpenAISettings | TransformersSettings, Field(discriminator="kind")]


def open_backend(settings: OpenAISettings | TransformersSettings) -> Backend:
    """The backend that `settings` describe, ready to be asked.

    Raises:
        ConfigError, WeightsError, MissingExtraError: it cannot work as it is set.

    """
    if isinstance(settings, OpenAISettings):
        from annotators.vlm.openai_backend import OpenAIBackend

        return OpenAIBackend(settings)
    from annotators.vlm.transformers_backend import TransformersBackend

    return TransformersBackend(settings)
