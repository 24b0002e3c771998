"""Hosts that get virtqueues wrong: what a driver's broken chain comes to, and the ring itself."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_ring = partial(Mutant, file="paravirt/native/ring.c")


def _taken(number: int, what: str) -> Mutant:
    """A host that takes a chain for good, up to where it breaks the rule."""
    return _ring(
        id=what,
        rule=f"VQ-{number}",
        old="if (fault) return fault;",
        new=f'if (fault) return strcmp(fault, "VQ-{number}") ? fault : NULL;',
    )


MUTANTS = (
    _ring(id="index_beyond_the_table", rule="VQ-1", old='return "VQ-1";', new="return NULL;"),
    _taken(2, "chain_too_long"),
    _taken(3, "buffer_outside_of_memory"),
    _taken(4, "readable_after_writable"),
    _taken(5, "bad_indirect_table"),
    _taken(6, "indirect_with_next"),
    _ring(id="index_far_ahead", rule="VQ-7", old="waiting > s->size", new="0"),
    _ring(
        id="areas_unaligned",
        rule="VQ-8",
        old="wanted->descriptors_gpa % 16 || wanted->driver_gpa % 2 || wanted->device_gpa % 4",
        new="0",
    ),
    _ring(
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
    _ring(
        id="index_wraps_at_the_size",
        rule="VQ-11",
        old="++s->next_used",
        new="(s->next_used = (uint16_t)((s->next_used + 1u) % s->size))",
    ),
)
