"""How an OpenAI-compatible server is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from schemas.errors import ConfigError

_OURS = {"model", "messages", "stream", "n"}
"""Fields of a request that nothing but the backend may set."""


class OpenAISettings(BaseModel):
    """Address, model and limits. Holds no secret: the key stays in the environment."""

    # An address may hold a password by mistake: a message about it must not repeat it.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    kind: Literal["openai"] = Field(default="openai", description="Which backend: an OpenAI-compatible server.")
    base_url: str = Field(description="Address of the server's API, e.g. http://127.0.0.1:8000/v1.")
    model: str = Field(min_length=1, description="Name under which the server has the model.")
    api_key_env: str = Field(
        default="",
        description="Name of the environment variable that holds the key, on every node that asks; empty: no key is "
        "sent.",
    )
    in_flight: int = Field(default=64, ge=1, description="Requests open at once, at most, in one worker.")
    request_seconds: float = Field(
        default=180.0,
        gt=0,
        description="Time limit of one try of a request. After the second that was too late there is no third.",
    )
    tries: int = Field(
        default=6,
        ge=1,
        description="How often a request is tried that the server fails on. As many times in a row without a server, "
        "or turned away by it, are an outage: the run waits.",
    )
    longest_wait: float = Field(
        default=60.0,
        gt=0,
        description="Longest pause before another try, in seconds, also where the server's Retry-After says more.",
    )
    max_reply_mb: int = Field(default=16, ge=1, description="A longer reply is cut off, and counts as none.")
    max_picture_side: int = Field(
        default=1024, ge=28, description="Pictures with a longer side are scaled down to it, in pixels."
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="Of the pictures sent.")
    temperature: float = Field(default=0.0, ge=0, description="Of the sampling; 0 takes the likeliest token.")
    logprobs: bool = Field(default=True, description="Ask for the probabilities of tokens.")
    top_logprobs: int = Field(default=5, ge=0, le=20, description="Likeliest tokens told at each place of the answer.")
    structured: Literal["json_schema", "structured_outputs", "guided_json", "none"] = Field(
        default="json_schema",
        description="How the server is told the JSON schema of the answer: `json_schema` is OpenAI's response_format "
        "(vLLM and SGLang know it too); `structured_outputs` and `guided_json` are vLLM's own, since and before 0.12; "
        "`none` leaves it to the prompt.",
    )
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="More fields for the body of each request, e.g. `chat_template_kwargs`; null leaves out a field "
        "that the server does not take.",
    )

    @field_validator("base_url")
    @classmethod
    def _is_plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # `port` raises on no number
            raise ValueError("must be an http:// or https:// address, e.g. http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no password, key or parameters; a key goes into the variable of `api_key_env`")
        return value.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _leaves_ours(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(_OURS & set(value)):
            raise ValueError(f"must not set {', '.join(taken)}")
        return value

    @property
    def identity(self) -> Mapping[str, str]:
        """What the answers depend on, of all this. The same model behind another address answers the same."""
        return {
            "backend": "openai",
            "model": self.model,
            "pictures": f"jpeg {self.jpeg_quality}, {self.max_picture_side}",
            "temperature": f"{self.temperature:g}",
            "logprobs": str(self.top_logprobs) if self.logprobs else "none",
            "structured": self.structured,
            "extra_body": json.dumps(self.extra_body, sort_keys=True),
        }

    def api_key(self) -> str:
        """The key, from the environment; "" where none is wanted.

        Raises:
            ConfigError: the variable is not set, or holds what cannot be a key.

        """
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {self.api_key_env} holds no key",
                where="api_key_env",
                remedy="Set it on every node, or leave `api_key_env` empty for a server that wants none",
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"the environment variable {self.api_key_env} holds characters that no key has", where="api_key_env"
            )
        return key
