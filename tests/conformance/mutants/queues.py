"""Hosts that get virtqueues wrong: what a driver's broken chain comes to, and the ring itself."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_ring = partial(Mutant, file="paravirt/native/ring.c")
_split = partial(Mutant, file="paravirt/native/ring_split.c")
_packed = partial(Mutant, file="paravirt/native/ring_packed.c")


def _taken(number: int, what: str) -> Mutant:
    """A host that takes a chain for good, up to where it breaks the rule."""
    return _split(
        id=what,
        rule=f"VQ-{number}",
        old="if (fault) return fault;",
        new=f'if (fault) return strcmp(fault, "VQ-{number}") ? fault : NULL;',
    )


MUTANTS = (
    _split(id="index_beyond_the_table", rule="VQ-1", old='return "VQ-1";', new="return NULL;"),
    _taken(2, "chain_too_long"),
    _taken(3, "buffer_outside_of_memory"),
    _taken(4, "readable_after_writable"),
    _taken(5, "bad_indirect_table"),
    _taken(6, "indirect_with_next"),
    _split(id="index_far_ahead", rule="VQ-7", old="waiting > s->size", new="0"),
    _ring(
        id="areas_unaligned",
        rule="VQ-8",
        old="wanted->descriptors_gpa % PV_DESC_BYTES || wanted->driver_gpa % shape.driver_align || "
        "wanted->device_gpa % shape.device_align",
        new="0",
    ),
    _split(
        id="write_in_an_indirect_descriptor",
        rule="VQ-9",
        old='if (table->indirect) return "VQ-5";',
        new='if (d->flags & PV_DESC_F_WRITE) return "VQ-4"; if (table->indirect) return "VQ-5";',
    ),
    _ring(
        id="faulty_chain_is_used",
        rule="VQ-10",
        old="if (queue->fault) return -1;",
        new="""if (queue->fault) {
            const char *fault = queue->fault;
            queue->fault = NULL;
            pv_queue_push(queue, chain->head, 0);
            queue->fault = fault;
            return -1;
        }""",
    ),
    _split(
        id="index_wraps_at_the_size",
        rule="VQ-11",
        old="(uint16_t)(s->next_used + used->places)",
        new="(uint16_t)((s->next_used + 1u) % s->size)",
    ),
    _packed(
        id="half_a_packed_chain",
        rule="VQ-13",
        old='if (!available(queue, next, d.flags)) return "VQ-13";',
        new="if (!available(queue, next, d.flags)) break;",
    ),
    _packed(id="any_buffer_id", rule="VQ-13", old="d.id >= s->size", new="d.id >= PV_MAX_QUEUE_SIZE"),
    _packed(id="wrap_counter_stays", rule="VQ-11", old="!(position & queue->state->size)", new="true"),
)
