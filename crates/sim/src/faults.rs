//! The faults of a world by name, and how often each struck.

use std::collections::BTreeMap;

use crate::dials::SECOND;

/// How often each fault strikes a call, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// The environment is frozen, up to 400 s, and goes on as if nothing had been.
    pub(crate) freeze: u32,
    /// The environment dies before the call.
    pub(crate) crash_before: u32,
    /// The call is refused and has no effect.
    pub(crate) throttle: u32,
    /// The environment dies after the call took effect.
    pub(crate) crash_after: u32,
    /// The call takes effect, but its reply is lost.
    pub(crate) lost_reply: u32,
    /// The call gets no answer, and had no effect.
    pub(crate) lost_request: u32,
    /// The caller gives up, and the call takes effect later, up to two minutes.
    pub(crate) late: u32,
}

impl Faults {
    /// None.
    pub(crate) const NONE: Self =
        Self { freeze: 0, crash_before: 0, throttle: 0, crash_after: 0, lost_reply: 0, lost_request: 0, late: 0 };

    /// A mix that one seed lives with: each kind between never and often.
    pub(crate) fn mix(rng: &mut fastrand::Rng) -> Self {
        let mut often = || [0, 10, 20, 40][rng.usize(0..4)];
        Self {
            freeze: often() / 2,
            crash_before: often(),
            throttle: often(),
            crash_after: often(),
            lost_reply: often(),
            lost_request: often() / 2,
            late: often() / 4,
        }
    }
}

/// What an outage takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Records, segments and timers.
    Table,
    /// Queues, egress and dead letters.
    Queues,
    /// Of these only what is sent to them.
    Sending,
    All,
}

/// Every call on a service fails for a while, whoever makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) service: Service,
}

impl Outage {
    pub(crate) fn strikes(&self, service: Service, now: u64) -> bool {
        let has = match self.service {
            Service::All => true,
            Service::Queues => matches!(service, Service::Queues | Service::Sending),
            Service::Table | Service::Sending => self.service == service,
        };
        has && (self.from..self.until).contains(&now)
    }

    pub(crate) fn name(&self) -> Struck {
        match (self.until - self.from) / SECOND {
            0..300 => Struck::ShortOutage,
            300..3_600 => Struck::OutageBeyondDeduplication,
            _ => Struck::OutageBeyondAnHour,
        }
    }
}

macro_rules! struck {
    ($($name:ident => $text:literal,)*) => {
        /// Everything that can befall a world. A test fails if one never does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Struck {
            $(#[doc = $text] $name,)*
        }

        impl Struck {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, for people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

struck! {
    Freeze => "environment frozen",
    CrashBefore => "crash before a call",
    CrashAfter => "crash after a call",
    Throttle => "call refused",
    LostReply => "reply lost",
    LostRequest => "request lost",
    Late => "call takes effect after its caller gave up",
    ShortOutage => "calls in an outage of less than 5 minutes",
    OutageBeyondDeduplication => "calls in an outage of more than 5 minutes",
    OutageBeyondAnHour => "calls in an outage of more than an hour",
    KilledByHandler => "environment killed by a handler",
    PowerLoss => "suffix of writes lost",
    Settled => "commit with its sends in one step",
    Copy => "copy sent by a producer",
    KeyReused => "key used again after the horizon",
    QueueDeath => "message given up by its queue",
    Redrive => "message redriven",
    MovedSend => "send to the other queue",
    Remade => "queue made anew",
    Forged => "forged sequence number",
    Dropped => "message dropped by its function's policy",
    RetriedForever => "failure of a function that retries for ever",
    Expired => "state value expired",
    UnreadableState => "state asked for that cannot be read yet",
    BigValue => "big state value written",
    FunctionRemoved => "message for a function that is removed",
    FunctionRenamed => "message for a function that is renamed",
    RowAfterTombstone => "row of a timer written again after it was cancelled",
    OldVersion => "commit by an older version",
    CommitRepeated => "commit repeated within its call",
    Transaction => "commit in a transaction",
    CommitRefused => "commit on a record that somebody else wrote",
    Leased => "lease taken",
    Cancelled => "timer cancelled",
    RecordRefused => "egress record refused by its receiver",
    RecordDenied => "egress record met a missing permission",
    Marked => "commit whose outbox stays",
    Proven => "outbox proven to be sent",
    Nudged => "nudge",
    RetentionOver => "message removed by its queue's retention",
    Purged => "message purged",
    OrderedIngress => "record of an ordered source",
    SharedRequest => "request with several messages",
    EntryFailed => "message of a request that failed by itself",
    Foreign => "message of a foreign sender",
    MalformedParked => "message parked that is not an envelope",
    StrayParked => "envelope parked that came in a foreign group",
    Newer => "message of a newer version",
}

/// How often each struck.
pub(crate) type Strikes = BTreeMap<Struck, u64>;
