"""Every metric of the model server, declared once: prefix ``chronotope_``, base units, never a user id in a label."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

FRESHNESS_BUCKETS_S = (
    0.005,
    0.01,
    0.02,
    0.035,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    1800,
    7200,
)
WORK_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SHARE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class ServerMetrics:
    """The instruments of one server instance in a registry of its own.

    >>> metrics = ServerMetrics()
    >>> metrics.records.labels("behavior.event.raw.v1").inc()
    >>> metrics.registry.get_sample_value("chronotope_server_records_total", {"topic": "behavior.event.raw.v1"})
    1.0
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._declare_input()
        self._declare_refresh()
        self._declare_output()
        self._declare_quality()
        self._declare_models()

    def _declare_input(self) -> None:
        registry = self.registry
        self.records = Counter("chronotope_server_records", "Records taken from a topic.", ["topic"], registry=registry)
        self.refused = Counter(
            "chronotope_server_refused_records",
            "Records that were not used, by reason.",
            ["topic", "reason"],
            registry=registry,
        )
        self.lag = Gauge(
            "chronotope_server_lag_records",
            "Records behind the end of a partition.",
            ["group", "topic", "partition"],
            registry=registry,
        )
        self.observe_seconds = Histogram(
            "chronotope_server_observe_seconds",
            "Time to learn from one batch of events.",
            buckets=WORK_BUCKETS_S,
            registry=registry,
        )
        self.learn_step_seconds = Histogram(
            "chronotope_server_learn_step_seconds",
            "Time of one step of learning.",
            buckets=WORK_BUCKETS_S,
            registry=registry,
        )
        self.untrained = Counter(
            "chronotope_server_untrained_events", "Events that were remembered and counted but not trained on, for lack of time.",
            ["strategy"], registry=registry,
        )  # fmt: skip
        self.users = Gauge("chronotope_server_users", "Users remembered.", registry=registry)
        self.evicted_users = Counter("chronotope_server_evicted_users", "Users forgotten for space.", registry=registry)
        self.items = Gauge("chronotope_server_items", "Items known.", registry=registry)
        self.ready = Gauge("chronotope_server_ready", "1 while the instance answers ready.", registry=registry)
        self.model_errors = Counter(
            "chronotope_server_model_errors",
            "Failed calls of a strategy, by call.",
            ["strategy", "call"],
            registry=registry,
        )

    def _declare_refresh(self) -> None:
        registry = self.registry
        self.freshness_seconds = Histogram(
            "chronotope_freshness_seconds",
            "From the cause (a record's append time, a due time) to its recommendation confirmed in Kafka.",
            ["trigger"], buckets=FRESHNESS_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.refreshes = Counter(
            "chronotope_refreshes", "Recommendations computed, by trigger.", ["trigger"], registry=registry
        )
        self.pending = Gauge("chronotope_refreshes_pending", "Users waiting to be refreshed.", registry=registry)
        self.batch_users = Histogram(
            "chronotope_refresh_batch_users", "Users ranked in one batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), registry=registry,
        )  # fmt: skip
        self.rank_seconds = Histogram(
            "chronotope_rank_seconds", "Time to rank one batch of users.", buckets=WORK_BUCKETS_S, registry=registry
        )
        self.checkpoint_seconds = Histogram(
            "chronotope_checkpoint_seconds", "Time to write one checkpoint.", buckets=WORK_BUCKETS_S, registry=registry
        )
        self.checkpoints = Counter(
            "chronotope_checkpoints",
            "Checkpoints, by outcome (written, restored, failed, refused).",
            ["outcome"],
            registry=registry,
        )

    def _declare_output(self) -> None:
        registry = self.registry
        self.published = Counter(
            "chronotope_recommendations",
            "Recommendations confirmed by Kafka, by strategy.",
            ["strategy"],
            registry=registry,
        )
        self.predictions = Counter(
            "chronotope_predictions", "Predictions of the next behaviour sent.", registry=registry
        )
        self.fallbacks = Counter(
            "chronotope_fallbacks",
            "Recommendations that a fallback filled or made, by stage.",
            ["stage"],
            registry=registry,
        )
        self.sink_errors = Counter("chronotope_sink_errors", "Failed writes, by sink.", ["sink"], registry=registry)
        for sink in ("kafka", "redis"):
            self.sink_errors.labels(sink)
        self.sink_up = Gauge("chronotope_sink_up", "1 while the sink accepts writes.", ["sink"], registry=registry)
        self.unsettled = Gauge(
            "chronotope_unsettled_recommendations",
            "Recommendations owed, or sent and not yet confirmed.",
            registry=registry,
        )
        self.redis_waiting = Gauge(
            "chronotope_redis_waiting", "Recommendations that wait for Redis.", registry=registry
        )
        self.redis_refused = Counter(
            "chronotope_redis_refused", "Writes that Redis refused because it holds a later version.", registry=registry
        )
        self.redis_seconds = Histogram(
            "chronotope_redis_write_seconds", "Time until Redis confirmed one batch.", buckets=WORK_BUCKETS_S,
            registry=registry,
        )  # fmt: skip
        self.kafka_seconds = Histogram(
            "chronotope_kafka_write_seconds", "Time from sending a recommendation until Kafka confirmed it.",
            buckets=WORK_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.http_seconds = Histogram(
            "chronotope_http_request_seconds", "Time to answer an HTTP request.", ["route", "status"],
            buckets=WORK_BUCKETS_S, registry=registry,
        )  # fmt: skip

    def _declare_quality(self) -> None:
        registry = self.registry
        self.tested = Counter(
            "chronotope_prequential_events",
            "Events that tested the recommendation before them.",
            ["strategy"],
            registry=registry,
        )
        self.hits = Counter(
            "chronotope_prequential_hits",
            "Tested events whose item was among the first k.",
            ["strategy", "k"],
            registry=registry,
        )
        self.reciprocal_rank = Counter(
            "chronotope_prequential_reciprocal_rank",
            "Sum of 1 / rank over the tested events.",
            ["strategy"],
            registry=registry,
        )
        self.explore_probability = Histogram(
            "chronotope_explore_probability", "The gate: probability that the next item is new to the user.",
            buckets=SHARE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.expert_share = Gauge(
            "chronotope_expert_share",
            "Share of each expert in the scores (moving mean).",
            ["expert"],
            registry=registry,
        )
        self.feedback = Counter(
            "chronotope_feedback",
            "Feedback joined to a recommendation, by strategy and kind.",
            ["strategy", "kind"],
            registry=registry,
        )
        self.feedback_unmatched = Counter(
            "chronotope_feedback_unmatched",
            "Feedback whose recommendation is not known any more.",
            ["kind"],
            registry=registry,
        )
        self.interleaved_wins = Counter(
            "chronotope_interleaved_clicks",
            "Clicks on interleaved items, by the strategy that chose them.",
            ["strategy"],
            registry=registry,
        )
        self.shadow_overlap = Histogram(
            "chronotope_shadow_overlap", "Share of the published items that the shadow strategy also chose.",
            buckets=SHARE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.prediction_error = Gauge(
            "chronotope_prediction_error", "Errors of the predictions: Brier score and calibration error of what, and "
            "coverage of when minus the nominal level.", ["measure"], registry=registry,
        )  # fmt: skip
        self._shares: dict[str, float] = {}

    def _declare_models(self) -> None:
        registry = self.registry
        self.model_loss = Gauge(
            "chronotope_model_loss",
            "Loss of a strategy's parts on new events, before they are learned (moving mean, nats).",
            ["strategy", "part"], registry=registry,
        )  # fmt: skip
        self.model_entries = Gauge(
            "chronotope_model_entries", "What a strategy holds, by kind.", ["strategy", "kind"], registry=registry
        )
        self.gpu_bytes = Gauge(
            "chronotope_gpu_memory_bytes", "GPU memory of this process: in tensors, and held by the allocator.",
            ["kind"], registry=registry,
        )  # fmt: skip

    def note_model(self, strategy: str, losses: Mapping[str, float], entries: Mapping[str, int]) -> None:
        """How a strategy does, and how much it holds."""
        for part, loss in losses.items():
            self.model_loss.labels(strategy, part).set(loss)
        for kind, number in entries.items():
            self.model_entries.labels(strategy, kind).set(number)

    def note_expert_share(self, expert: str, share: float) -> None:
        """One more sample of an expert's share in a score, into its moving mean."""
        mean = self._shares.get(expert, share)
        self._shares[expert] = mean + 0.01 * (share - mean)
        self.expert_share.labels(expert).set(self._shares[expert])
