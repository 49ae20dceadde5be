"""Configuration of a build: one YAML file, any value of which a dotted override can set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SplitConfig(_Section):
    """Train and test. Pairs that share a recording, footage or a `split_group` stay on one side."""

    test_share: float = Field(
        0.025, ge=0, le=1, description="Expected share of groups in the test split (the paper: 132 of 5,292)."
    )
    seed: int = Field(0, description="Another seed deals the groups out anew.")


class ShardsConfig(_Section):
    """How large the tars are."""

    max_samples: int = Field(1000, ge=1, description="Samples in one tar, at most.")
    max_mb: int = Field(
        1024,
        ge=1,
        description="Size of one tar in MB, at most (a single larger sample is written all the same).",
    )


class LiveConfig(_Section):
    """How rows of `kind: live` are captured."""

    segment_seconds: float = Field(
        300.0,
        gt=0,
        description="Length of a segment; it goes on to the next keyframe. A segment is read as soon as it is closed.",
    )
    stall_seconds: float = Field(30.0, gt=0, description="Connect anew after so long without anything new.")
    give_up_seconds: float = Field(
        600.0,
        gt=0,
        description="Take the stream for ended after so long without anything new, however often it was tried.",
    )
    backoff_seconds: float = Field(
        30.0, gt=0, description="Longest pause before connecting anew; the first is half a second, each doubles."
    )


class SourcesConfig(_Section):
    """What a manifest may have this machine open. The defaults are for manifests that a stranger wrote."""

    allow_private_addresses: bool = Field(
        False,
        description="http(s) addresses may lead to private, loopback, link-local and metadata addresses, by name or by "
        "redirect.",
    )
    allow_local_files: bool = Field(
        False,
        description="A manifest that lies in a store or on the web may name files of the machine that reads it. One on "
        "local disk always may.",
    )
    protocols: tuple[str, ...] = Field(
        (),
        description="fsspec protocols that a manifest may use beside the usual ones (local files, http, https, s3, gs, "
        "az, abfs, oss, oci, hf). Each link of a chained address (`zip://…::s3://…`) needs its own.",
    )
    stall_seconds: float = Field(
        30.0,
        gt=0,
        description="An HTTP server that sends less than 64 kB in this time counts as stalled; it is asked again.",
    )


class RunConfig(_Section):
    """How the build runs. Nothing here changes what is written."""

    address: str | None = Field(
        None,
        description="Ray cluster to join. null: the one that RAY_ADDRESS or `ray job submit` names, or that runs on "
        "this machine; else one is started. `local` always starts one.",
    )
    workers: int | None = Field(
        None, ge=1, description="Workers per pool, at most; null: what the cluster's resources allow."
    )
    autoscale: bool = Field(
        False,
        description="Ask Ray's autoscaler (KubeRay, `ray up`) for the nodes that the waiting work could use. The run "
        "then waits for nodes that are not there yet.",
    )
    max_pending_clips: int | None = Field(None, ge=1, description="Clips waiting between stages; null: two a worker.")
    max_pending_mb: int = Field(
        2048,
        ge=1,
        description="Compressed bytes waiting between stages, in MB; never more than a quarter of the object store.",
    )
    worker_memory_mb: int = Field(
        8192,
        ge=512,
        description="Memory that a worker without a GPU may take, in MB, unless its `resources.memory_mb` say "
        "otherwise. A stage that asks for more fails its clip, with code `memory`.",
    )
    max_failed_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A stage that fails on more than this share of its clips, of 20 at least, stops the run: most "
        "likely something is wrong with the stage. 1 never stops.",
    )
    outage_seconds: float = Field(
        600.0,
        ge=0,
        description="How long to wait, trying again at growing intervals, for a full disk, a store or a server that is "
        "away, before the run stops.",
    )
    drain_seconds: float = Field(
        60.0,
        ge=0,
        description="How long calls in flight may go on after SIGINT or SIGTERM. A second signal stops at once.",
    )
    measure_all: bool = Field(
        False,
        description="Run every stage on clips that a filter has dropped too, to know all their metrics.",
    )
    retry_failed: bool = Field(False, description="Try clips and recordings again that failed in an earlier run.")
    log_every_seconds: float = Field(10.0, gt=0, description="Between two progress lines where there is no terminal.")
    log_json: bool = Field(
        False, description="Standard error gets the lines of the run's log, JSON an event, instead of its progress."
    )


class BuildConfig(_Section):
    """All of a build. Relative paths are relative to the working directory."""

    manifest: str = Field(description="Manifest: .jsonl, .csv or .parquet; path or fsspec URL.")
    output: str = Field(description="Folder or fsspec URL that the dataset is written to.")
    work: str | None = Field(
        None,
        description="Folder or fsspec URL of the clip store; null: `work` in the output. Outputs with other bounds may "
        "share one; clips of another `ingest` are replaced in it.",
    )
    name: str = Field("VVT-Interact", description="Name of the dataset, for its card.")
    ingest: dict[str, Any] = Field(
        default_factory=dict, description="Fields of `curation.ingest:Ingest`: shots and normalised clips."
    )
    tier: Literal["embedded", "full", "none"] = Field(
        "embedded",
        description="Stages to begin with: those that run anywhere on CPU, those of the papers for GPUs and with "
        "weights of your own, or none but those in `stages`.",
    )
    stages: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Stages by name, in the order they run. Fields set the stage's own; null removes a stage; "
        "a new name needs `use: module:Class` and may say `before:` or `after:` which stage it runs.",
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="Train and test.")
    shards: ShardsConfig = Field(default_factory=ShardsConfig, description="Size of the tars.")
    live: LiveConfig = Field(default_factory=LiveConfig, description="Capture of live streams.")
    sources: SourcesConfig = Field(default_factory=SourcesConfig, description="What a manifest may name.")
    run: RunConfig = Field(default_factory=RunConfig, description="Workers and limits.")

    @property
    def work_url(self) -> str:
        """Where the clip store lies."""
        return self.work or f"{self.output.rstrip('/')}/work"
