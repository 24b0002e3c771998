"""Hosts that get a service wrong: console, event, time, vcpu, memory, system, entropy, trace."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_event = partial(Mutant, file="paravirt/native/event.c")
_kvm = partial(Mutant, file="paravirt/native/kvm.c")
_time = partial(Mutant, file="paravirt/native/time.c")
_entry = partial(Mutant, file="paravirt/native/kvm_entry.c")
_trace = partial(Mutant, file="paravirt/native/trace.c")
_console = partial(Mutant, file="paravirt/native/console.c")
_memory = partial(Mutant, file="paravirt/native/memory.c")
_continuity = partial(Mutant, file="paravirt/native/continuity.c")
_system = partial(Mutant, file="paravirt/native/system.c")

_PENDING = "__atomic_exchange_n(&page->upcall_pending, 1, __ATOMIC_SEQ_CST)"
_UPCALL_MASK = "__atomic_load_n(&page->upcall_mask, __ATOMIC_SEQ_CST)"
_MASKED = "__atomic_load_n(&page->mask[channel / 64], __ATOMIC_SEQ_CST) & bit"

CONSOLE = (
    _console(id="write_takes_a_part", rule="CON-1", old="*value = args[1];", new="*value = args[1] - args[1] / 2;"),
    _console(
        id="over_the_budget_is_a_failure",
        rule="CON-2",
        old="return PV_STATUS_QUOTA;",
        new="return PV_STATUS_IO;",
    ),
    _console(
        id="read_waits",
        rule="CON-3",
        old="machine->ops.console_read(machine, text, args[1])",
        new="(usleep(500000), machine->ops.console_read(machine, text, args[1]))",
    ),
)

EVENT = (
    _event(
        id="event_not_pending",
        rule="EVT-1",
        old="__atomic_fetch_or(&page->pending[channel / 64], bit, __ATOMIC_SEQ_CST);",
        new="",
    ),
    _event(id="upcall_for_a_masked_channel", rule="EVT-1", old=_MASKED, new="0"),
    _event(id="upcall_never_sent", rule="EVT-1", old=f"!before && !{_UPCALL_MASK}", new="0"),
    _event(id="upcall_though_masked", rule="EVT-1", old=f"!before && !{_UPCALL_MASK}", new="!before"),
    _event(
        id="mask_holds_the_wake_up_back",
        rule="EVT-2",
        old="pv_vcpu_wake(vcpu);",
        new=f"if (!{_UPCALL_MASK}) pv_vcpu_wake(vcpu);",
    ),
    _event(id="nothing_to_find_after_unmasking", rule="EVT-3", old=_PENDING, new=f"{_UPCALL_MASK} ? 1 : {_PENDING}"),
    _event(
        id="masking_loses_events",
        rule="EVT-5",
        old=_MASKED,
        new=f"{_MASKED} && (__atomic_fetch_and(&page->pending[channel / 64], ~bit, __ATOMIC_SEQ_CST), 1)",
    ),
    _event(id="channels_end_later", rule="EVT-6", old="args[1] >= PV_LIMIT_CHANNELS", new="args[1] > UINT32_MAX"),
    _event(
        id="stopped_vcpu_hears_nothing",
        rule="EVT-8",
        old="channel >= PV_LIMIT_CHANNELS",
        new="channel >= PV_LIMIT_CHANNELS || machine->vcpus[index]->state.state == PV_VCPU_STATE_STOPPED",
    ),
    _event(
        id="event_doorbell_is_not_heard",
        rule="EVT-10",
        old="!__atomic_load_n(&vcpu->state.upcall_vector, __ATOMIC_SEQ_CST)",
        new="1",
    ),
    _event(
        id="sleeps_before_it_says_so",
        rule="EVT-11",
        old="set_state(vcpu, PV_VCPU_STATE_BLOCKED);",
        new="set_state(vcpu, PV_VCPU_STATE_RUNNING);",
    ),
    _kvm(
        id="eoi_without_its_feature",
        rule="EVT-13",
        old="arm_eoi(own, pv_event_eoi_gpa(vcpu, vector));",
        new="__atomic_store_n(&vcpu->page->eoi, 1, __ATOMIC_SEQ_CST);",
    ),
    _kvm(id="every_upcall_is_nmi", rule="EVT-9", old="vector == PV_UPCALL_NMI ? 0x400 : vector", new="0x400"),
)

TIME = (
    # By more than a busy machine keeps a vCPU waiting, which would see nothing of a small step.
    _time(
        id="time_goes_back",
        rule="TIME-1",
        old="next.base_ns = scaled(&machine->time, counter);",
        new="next.base_ns = scaled(&machine->time, counter) / 10 * 9;",
    ),
    _time(id="deadline_early", rule="TIME-2", old="due > now", new="due > now + 3000000"),
    _time(
        id="deadline_again_and_again",
        rule="TIME-2",
        old="""__atomic_compare_exchange_n(&vcpu->state.deadline_ns, &due, PV_DEADLINE_NEVER, false,
            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)""",
        new="(next = now + 1000000)",
    ),
    _time(
        id="first_deadline_stays",
        rule="TIME-3",
        old="__atomic_store_n(&vcpu->state.deadline_ns, args[0], __ATOMIC_SEQ_CST);",
        new="if (vcpu->state.deadline_ns == PV_DEADLINE_NEVER) vcpu->state.deadline_ns = args[0];",
    ),
    _time(
        id="sequence_stands_still",
        rule="TIME-5",
        old="__atomic_store_n(&to->sequence, sequence + 2, __ATOMIC_RELEASE);",
        new="__atomic_store_n(&to->sequence, 2, __ATOMIC_RELEASE);",
    ),
)

VCPU = (
    _event(
        id="start_of_a_running_vcpu_says_ok",
        rule="VCPU-1",
        old="__atomic_store_n(&target->starting, 0, __ATOMIC_SEQ_CST); return PV_STATUS_BAD_STATE;",
        new="__atomic_store_n(&target->starting, 0, __ATOMIC_SEQ_CST); return PV_STATUS_OK;",
    ),
    _event(
        id="yield_says_running",
        rule="VCPU-9",
        old="status = state_of(vcpu->machine, args[0], value);",
        new="status = state_of(vcpu->machine, args[0], value); *value = PV_VCPU_STATE_RUNNING;",
    ),
    _kvm(
        id="apics_numbered_from_8_on",
        rule="VCPU-10",
        old="(unsigned long)index",
        new="(unsigned long)index + 8",
    ),
    _event(
        id="state_is_what_the_page_says",
        rule="DATA-3",
        old="__atomic_load_n(&machine->vcpus[index]->state.state, __ATOMIC_SEQ_CST)",
        new="machine->vcpus[index]->page->state",
    ),
    _event(id="stack_aligned_to_8", rule="VCPU-2", old="stack_gpa % 16", new="stack_gpa % 8"),
    _event(
        id="block_waits_while_masked",
        rule="VCPU-3",
        old="__atomic_load_n(&vcpu->page->upcall_pending, __ATOMIC_SEQ_CST) || stopping(vcpu)",
        new="(vcpu->page->upcall_pending && !vcpu->page->upcall_mask) || stopping(vcpu)",
    ),
    _event(
        id="stop_disarms_the_deadline",
        rule="VCPU-5",
        old="set_state(vcpu, PV_VCPU_STATE_STOPPED);",
        new="vcpu->state.deadline_ns = vcpu->page->deadline_ns = PV_DEADLINE_NEVER; "
        "set_state(vcpu, PV_VCPU_STATE_STOPPED);",
    ),
    _entry(
        id="started_with_rbx",
        rule="VCPU-6",
        old="ioctl(own->fd, KVM_SET_REGS, &regs) < 0",
        new="(regs.rbx |= own->mode_given, ioctl(own->fd, KVM_SET_REGS, &regs)) < 0",
    ),
    _event(
        id="block_takes_the_deadline",
        rule="VCPU-7",
        old="pv_vcpu_block(vcpu, args[0]);",
        new="vcpu->state.deadline_ns = vcpu->page->deadline_ns = args[0]; pv_vcpu_block(vcpu, args[0]);",
    ),
)

MEMORY = (
    _memory(
        id="touched_before_all_are_checked",
        rule="MEM-1",
        old="check_ranges(memory, ranges, args[1])",
        new="(check_ranges(memory, ranges, 1) == PV_STATUS_OK && ranges[0].size_bytes ? "
        "act(memory, ranges[0].gpa, ranges[0].size_bytes) : 0, check_ranges(memory, ranges, args[1]))",
    ),
    _memory(
        id="parts_of_pages",
        rule="MEM-2",
        old="ranges[i].gpa % PV_PAGE_BYTES || ranges[i].size_bytes % PV_PAGE_BYTES",
        new="ranges[i].gpa % PV_PAGE_BYTES",
    ),
    _memory(
        id="discard_keeps_the_bytes",
        rule="MEM-3",
        old="return each_range(vcpu, args, value, pv_memory_discard, PV_STATUS_FAILED, &bytes);",
        new="return each_range(vcpu, args, value, pv_memory_populate, PV_STATUS_FAILED, &bytes);",
    ),
    _memory(
        id="overlap_refused",
        rule="MEM-4",
        old="!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes)",
        new="!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes) || "
        "(i && ranges[i].gpa < ranges[i - 1].gpa + ranges[i - 1].size_bytes && "
        "ranges[i - 1].gpa < ranges[i].gpa + ranges[i].size_bytes)",
    ),
    _memory(
        id="every_mebibyte_is_a_range",
        rule="DATA-5",
        old="!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes)",
        new="!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes) || "
        "(ranges[i].size_bytes && (ranges[i].gpa ^ (ranges[i].gpa + ranges[i].size_bytes - 1)) >> 20)",
    ),
    _memory(id="no_limit_of_bytes", rule="MEM-5", old="ranges[i].size_bytes > left", new="0"),
    _memory(
        id="continues_with_nothing_done",
        rule="MEM-6",
        old="if (!args[1]) return PV_STATUS_OK; pv_memory_read(memory, args[0], ranges, args[1] * sizeof(ranges[0]));",
        new="if (args[1] > 1) return PV_STATUS_CONTINUE; "
        "if (!args[1]) return PV_STATUS_OK; pv_memory_read(memory, args[0], ranges, sizeof(ranges[0]));",
    ),
    _memory(
        id="reported_pages_hold_something_else",
        rule="MEM-8",
        old="__atomic_fetch_add(&vcpu->machine->reported_bytes, bytes, __ATOMIC_RELAXED);",
        new="const struct pv_memory *m = &vcpu->machine->memory; "
        "const struct pv_memory_range *r = status < 0 ? NULL : pv_memory_at(m, args[0], sizeof(*r)); "
        "if (r && r->size_bytes) memset(pv_memory_at(m, r->gpa, PV_PAGE_BYTES), 0xff, PV_PAGE_BYTES);",
    ),
)

CONTINUITY = (
    _continuity(
        id="any_counter_acknowledges",
        rule="CONT-4",
        old="args[0] != __atomic_load_n(&state->counter, __ATOMIC_SEQ_CST)",
        new="0",
    ),
)

SYSTEM = (
    _system(
        id="unknown_reason_is_fine",
        rule="SYS-1",
        old="if (args[0] > PV_SHUTDOWN_BOOT_REFUSED) /* SYS-1 */ return PV_STATUS_INVALID;",
        new="if (args[0] > PV_SHUTDOWN_BOOT_REFUSED) return PV_STATUS_OK;",
    ),
    Mutant(
        id="memory_outlives_a_reset",
        rule="SYS-3",
        file="paravirt/memory.py",
        old="fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)",
        new='os.dup2(globals().setdefault("kept", os.dup(fd)), fd)',
    ),
    _system(id="watchdog_never_bites", rule="SYS-4", old="due_ns > now_ns", new="true"),
    Mutant(
        "triple_fault_is_a_success",
        "SYS-6",
        "paravirt/native/run.c",
        old="out->kind = PV_EXIT_TRIPLE_FAULT;",
        new="""static const struct pv_end end = { .kind = PV_END_SHUTDOWN };
        out->kind = PV_EXIT_STOPPED;
        pv_machine_finish(vcpu->machine, &end);""",
    ),
    _system(
        id="first_end_does_not_count",
        rule="SYS-5",
        old="if (__atomic_exchange_n(&machine->ended, 1, __ATOMIC_SEQ_CST)) /* SYS-5 */ return false;",
        new="""static uint32_t ends;
        if (end->reason == PV_SHUTDOWN_FAILURE && !__atomic_fetch_add(&ends, 1, __ATOMIC_SEQ_CST))
            return false;
        if (__atomic_exchange_n(&machine->ended, 1, __ATOMIC_SEQ_CST))
            return false;""",
    ),
)

REST = (
    _trace(id="entropy_counts_half", rule="ENT-1", old="*value = args[1];", new="*value = args[1] - args[1] / 2;"),
    _trace(
        id="entropy_fills_half",
        rule="ENT-1",
        old="pv_memory_write(&vcpu->machine->memory, args[0], bytes, args[1]);",
        new="pv_memory_write(&vcpu->machine->memory, args[0], bytes, args[1] / 2);",
    ),
    _trace(
        id="too_many_marks_are_a_failure",
        rule="TRC-1",
        old="return PV_STATUS_QUOTA;",
        new="return PV_STATUS_FAILED;",
    ),
    _trace(
        id="end_needs_a_span",
        rule="TRC-2",
        old="return mark(vcpu, PV_TRACE_END, 0, 0, 0);",
        new="return PV_STATUS_BAD_STATE;",
    ),
)

MUTANTS = (*CONSOLE, *EVENT, *TIME, *VCPU, *MEMORY, *SYSTEM, *CONTINUITY, *REST)
