"""Service entropy: seed bytes."""

from ..schema import Buffer, Call, Limit, Rule, Service

ENTROPY_BYTES = Limit(14, "ENTROPY_BYTES", 256, "bytes", "One request for entropy.")

SERVICE = Service(
    10,
    "entropy",
    "Bytes from the host's random number generator, fit for keys.",
    (
        Call(
            0,
            "fill",
            "Fills a buffer with random bytes.",
            (Buffer("data", "Room for them.", "write", ENTROPY_BYTES),),
            value="bytes written",
            varies=("output",),
        ),
    ),
)

RULES = (
    Rule("ENT-1", "entropy.fill fills the whole buffer or fails."),
    Rule(
        "ENT-2",
        "Random bytes (entropy.fill, SEED, the seed of the continuity page) come from a generator fit for keys, and no "
        "machine is given those of another, its own copies included.",
        no_case="how good random bytes are does not show in a few of them, nor what another machine was given",
    ),
)
