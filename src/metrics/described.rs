//! Which metrics belong to no lender, or have more labels than that?

/// One metric, for those who look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Described {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static str,
    pub help: &'static str,
}

impl Described {
    const fn of_process(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            labels: "none",
            help,
        }
    }
}

pub(super) const REQUESTS: Described = Described {
    name: "requests_total",
    kind: "Counter",
    labels: "lender, status",
    help: "Requests to upstream, logins included, by the status of the answer; none: there was no answer",
};

pub(super) const IN_FLIGHT: Described = Described::of_process(
    "in_flight_bytes",
    "Gauge",
    "Memory of what is read from upstream and not yet committed, of all lenders; not what is on its way to Kafka",
);
pub(super) const IN_FLIGHT_LIMIT: Described = Described::of_process(
    "in_flight_limit_bytes",
    "Gauge",
    "What that may come to: three quarters of memory.in_flight, or of 1 MiB a lender where that is more",
);
pub(super) const START: Described = Described::of_process(
    "start_timestamp_seconds",
    "FloatGauge",
    "When this process began, in seconds since the epoch",
);
pub(super) const GROUP_MEMBER: Described = Described {
    name: "group_member",
    kind: "Gauge",
    labels: "group",
    help: "1 where this process is a member of the group; not there where it is of none",
};
pub(super) const GROUP_PARTITIONS: Described = Described::of_process(
    "group_partitions",
    "Gauge",
    "Partitions of the cursor topic that the group has given to this process",
);
pub(super) const GROUP_REBALANCES: Described = Described::of_process(
    "group_rebalances_total",
    "Counter",
    "Times that the group gave partitions to this process or took some from it",
);
pub(super) const LOG_LINES_DROPPED: Described = Described::of_process(
    "log_lines_dropped_total",
    "Counter",
    "Lines of the log that standard error did not take",
);

pub(super) const BUILD_INFO: Described = Described {
    name: "build_info",
    kind: "Gauge",
    labels: "version",
    help: "1, for the version of this program",
};
