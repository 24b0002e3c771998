"""Hosts that get call rings wrong."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_ring = partial(Mutant, file="paravirt/native/callring.c")

_SERVE = "pv_submission_serve(vcpu, PV_ROAD_RING, &copy, &ring->completions[at]);"

MUTANTS = (
    _ring(
        id="second_ring",
        rule="RING-1",
        old="if (vcpu->state.callring.state != PV_RING_STATE_OFF) /* RING-1 */ return PV_STATUS_BAD_STATE;",
        new="",
    ),
    _ring(
        id="submissions_aligned_to_8",
        rule="RING-2",
        old="check_area(memory, setup->submissions_gpa, 64, entries * sizeof(struct pv_submission))",
        new="check_area(memory, setup->submissions_gpa, 8, entries * sizeof(struct pv_submission))",
    ),
    _ring(
        id="tail_is_not_reset",
        rule="RING-3",
        old="__atomic_store_n(&ring->control->completion_tail, 0, __ATOMIC_RELAXED);",
        new="",
    ),
    _ring(
        id="counted_before_it_is_written",
        rule="RING-4",
        old=_SERVE,
        new=f"vcpu->state.callring.next++; publish(vcpu); usleep(2000); vcpu->state.callring.next--; {_SERVE}",
    ),
    _ring(
        id="completions_change_places",
        rule="RING-5",
        old="&ring->completions[at]",
        new="&ring->completions[at ^ (vcpu->state.callring.setup.entries > 1)]",
    ),
    _ring(
        id="ring_ignores_flags",
        rule="RING-6",
        old="copy = pv_submission_copy(&ring->submissions[at]);",
        new="copy = pv_submission_copy(&ring->submissions[at]); copy.flags = 0;",
    ),
    _ring(id="overflow_is_no_fault", rule="RING-8", old="fault(vcpu);", new=""),
    _ring(id="no_doorbell_wanted", rule="RING-9", old="want_doorbells(machine, 1);", new=""),
    _ring(
        id="nobody_is_told",
        rule="RING-10",
        old="wish - state->signalled < state->completed - state->signalled",
        new="0",
    ),
    _ring(
        id="no_channel_is_the_last",
        rule="RING-11",
        old="state->setup.channel == PV_RING_NO_CHANNEL",
        new="state->setup.channel == PV_RING_NO_CHANNEL && "
        "(pv_event_raise(vcpu->machine, vcpu->index, PV_LIMIT_CHANNELS - 1), 1)",
    ),
    _ring(
        id="state_stays_on",
        rule="RING-12",
        old="__atomic_store_n(&vcpu->callring.control->state, state, __ATOMIC_SEQ_CST);",
        new="",
    ),
    _ring(
        id="one_ring_starves_others",
        rule="RING-13",
        old="done += visit(machine->vcpus[next], others);",
        new="done += visit(machine->vcpus[63 - __builtin_clzll(left | 1ull << next)], others); break;",
    ),
    _ring(
        id="every_doorbell_counts",
        rule="RING-14",
        old="serve_for_a_while(machine)",
        new="""({
            struct pv_vcpu *first = machine->vcpus[0];
            static bool slept;
            if (slept && machine->callrings.on & 1 &&
                first->callring.control->submission_tail == first->state.callring.next) {
                first->state.callring.next++;
                publish(first);
            }
            slept = serve_for_a_while(machine);
        })""",
    ),
    _ring(
        id="other_value_over_the_ring",
        rule="RING-15",
        old="vcpu->state.callring.next++;",
        new="ring->completions[at].value ^= 1; vcpu->state.callring.next++;",
    ),
)
