"""Hosts that get calls wrong: dispatch, the registers of the trap, the service base, batches."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_dispatch = partial(Mutant, file="paravirt/native/dispatch.c")
_base = partial(Mutant, file="paravirt/native/base.c")
_run = partial(Mutant, file="paravirt/native/run.c")

_CHECKED = "result->status = d ? check(vcpu, d, call) : PV_STATUS_NOT_SUPPORTED;"
_MASKED = "call->id >> 16 < PV_SERVICES && machine->denied[call->id >> 16] >> (call->id & 15) & 1"
_DECLARED = "declarations[call->id >> 16][call->id & 15]"
_UNACCEPTED = f"call->id >> 16 < PV_SERVICES && (call->id & 0xffff) < PV_FUNCTIONS && {_DECLARED}.feature >= 0"
_COMPLETION = "*to = (struct pv_completion){ .cookie = from->cookie, .status = result.status, .value = result.value };"
_SERVE = "pv_submission_serve(vcpu, PV_ROAD_BATCH, &copy, (struct pv_completion *)completion);"
_SUBMISSIONS = "pv_memory_at(memory, args[0], count * sizeof(struct pv_submission))"

DISPATCH = (
    _dispatch(
        id="unknown_is_invalid",
        rule="CALL-1",
        old="d ? check(vcpu, d, call) : PV_STATUS_NOT_SUPPORTED",
        new="d ? check(vcpu, d, call) : PV_STATUS_INVALID",
    ),
    _dispatch(
        id="status_of_no_list",
        rule="ERR-3",
        old="d ? check(vcpu, d, call) : PV_STATUS_NOT_SUPPORTED",
        new="d ? check(vcpu, d, call) : -38",
    ),
    _dispatch(
        id="completions_are_padded_with_ones",
        rule="DATA-2",
        old=_COMPLETION,
        new=f"{_COMPLETION} to->reserved0[7] = 1;",
    ),
    _dispatch(
        id="missing_vendor_is_invalid",
        rule="VND-1",
        old="d ? check(vcpu, d, call) : PV_STATUS_NOT_SUPPORTED",
        new="d ? check(vcpu, d, call) : call->id >> 31 ? PV_STATUS_INVALID : PV_STATUS_NOT_SUPPORTED",
    ),
    _dispatch(
        id="masked_can_be_told",
        rule="CALL-2",
        old=_CHECKED,
        new=f"{_CHECKED} if (!d && {_MASKED}) result->status = PV_STATUS_BAD_STATE;",
    ),
    _dispatch(
        id="feature_needs_no_accepting",
        rule="CALL-3",
        old="find(machine, call->id)",
        new=f"find(machine, call->id) ? find(machine, call->id) : {_UNACCEPTED} ? &{_DECLARED} : NULL",
    ),
    _dispatch(id="every_road_will_do", rule="CALL-4", old="!(d->roads & call->road)", new="0"),
    _dispatch(id="last_register_ignored", rule="CALL-5", old="call->args[i]", new="i < 5 && call->args[i]"),
    _dispatch(
        id="alignment_before_limit",
        rule="CALL-6",
        old="length > a->limit",
        new="!(gpa & (uint64_t)(a->align - 1)) && length > a->limit",
    ),
    _dispatch(
        id="arguments_before_road",
        rule="CALL-4",
        old="check(vcpu, d, call)",
        new="d->registers < 6 && call->args[5] ? PV_STATUS_INVALID : check(vcpu, d, call)",
    ),
    _dispatch(
        id="empty_buffer_needs_memory",
        rule="CALL-7",
        old="length && !pv_memory_at(memory, gpa, length * a->unit)",
        new="!pv_memory_at(memory, gpa, length * a->unit)",
    ),
    _dispatch(
        id="refused_and_done",
        rule="CALL-10",
        old="if (result->status == PV_STATUS_OK) result->status = carry_out(vcpu, call, &result->value);",
        new="""int64_t kept = result->status;
        if (kept == PV_STATUS_OK || kept == PV_STATUS_INVALID)
            result->status = carry_out(vcpu, call, &result->value);
        if (kept != PV_STATUS_OK)
            result->status = kept;""",
    ),
    _dispatch(
        id="poison_beyond_the_buffer",
        rule="CALL-11",
        old="(length - value) * a->unit",
        new="(length - value) * a->unit + 1",
    ),
    _run(
        id="addresses_of_the_guests_own",
        rule="CALL-13",
        old="regs->rdi",
        new="""({
            struct kvm_translation found = { .linear_address = regs->rdi };
            int fd = ((struct pv_kvm_vcpu *)vcpu->opaque)->fd;
            ioctl(fd, KVM_TRANSLATE, &found) == 0 && found.valid ? found.physical_address : regs->rdi;
        })""",
    ),
    _dispatch(id="upper_half_of_rax_ignored", rule="CALL-8", old="registers->rax >> 32", new="0"),
    _run(
        id="r12_lost",
        rule="CALL-9",
        old="regs->rdx = trap.rdx;",
        new="regs->rdx = trap.rdx; regs->r12 ^= 1;",
    ),
    _run(
        id="rdi_lost",
        rule="CALL-9",
        old="regs->rax = trap.rax;",
        new="regs->rax = trap.rax; regs->rdi = 0;",
    ),
    _run(
        id="carry_lost",
        rule="CALL-9",
        old="run->kvm_dirty_regs = KVM_SYNC_X86_REGS;",
        new="regs->rflags ^= 1; run->kvm_dirty_regs = KVM_SYNC_X86_REGS;",
    ),
    _run(id="narrow_write_is_a_call", rule="CALL-17", old="run->io.size == 4", new="run->io.size <= 4"),
    _run(
        id="ports_float_low",
        rule="CALL-17",
        old="memset(data, 0xff, (size_t)run->io.size * run->io.count);",
        new="memset(data, 0, (size_t)run->io.size * run->io.count);",
    ),
)

BASE = (
    _base(
        id="version_turned_round",
        rule="BASE-1",
        old="(uint64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR",
        new="(uint64_t)PV_ABI_MINOR << 32 | PV_ABI_MAJOR",
    ),
    _base(
        id="every_feature_accepted",
        rule="BASE-2",
        old="features & ~pv_service_offers(machine, (uint32_t)slot)",
        new="0",
    ),
    _base(id="second_set_accepted", rule="BASE-3", old="machine->state.accepted[slot] == features", new="true"),
    _base(
        id="services_in_parts",
        rule="BASE-4",
        old="if (args[1] - *value < sizeof(info)) return false;",
        new="""if (args[1] - *value < sizeof(info)) {
            uint64_t part = args[1] - *value;
            pv_memory_write(&machine->memory, args[0] + *value, &info, part);
            *value += part;
            return false;
        }""",
    ),
    _base(
        id="services_out_of_order",
        rule="BASE-4",
        old="list_service(machine, slot, args, value)",
        new="list_service(machine, slot == 1 ? 2 : slot == 2 ? 1 : slot, args, value)",
    ),
    _base(
        id="missing_service_is_invalid",
        rule="BASE-5",
        old="if (slot < 0) return PV_STATUS_NOT_FOUND;",
        new="if (slot < 0) return PV_STATUS_INVALID;",
    ),
    _base(id="limits_halved", rule="BASE-6", old="*value = limits[args[0]];", new="*value = limits[args[0]] / 2;"),
    _base(
        id="features_outlive_renegotiation",
        rule="BASE-8",
        old="__atomic_store_n(&state->accepted[s], 0, __ATOMIC_RELAXED);",
        new="",
    ),
    _base(id="counts_may_differ", rule="BATCH-1", old="count != args[3]", new="count > args[3]"),
    _base(
        id="batch_stops_at_a_refusal",
        rule="BATCH-2",
        old="++*value;",
        new="if (*(int64_t *)(to + (*value)++ * sizeof(struct pv_completion) + 8) < 0) break;",
    ),
    _base(
        id="batch_backwards",
        rule="BATCH-2",
        old="from + *value * sizeof(struct pv_submission)",
        new="from + (count - 1 - *value) * sizeof(struct pv_submission)",
    ),
    _base(id="flags_ignored", rule="BATCH-3", old=_SERVE, new=f"copy.flags = 0; {_SERVE}"),
    _base(
        id="submissions_read_early",
        rule="BATCH-4",
        old=_SUBMISSIONS,
        new=f"memcpy(__builtin_alloca(count * 64), {_SUBMISSIONS}, count * 64)",
    ),
    _base(id="batch_without_end", rule="BATCH-5", old="pv_clock_ns() >= end_ns", new="0"),
    _base(
        id="batch_continues_with_nothing_done",
        rule="BATCH-5",
        old="if (!count) return PV_STATUS_OK;",
        new="static uint32_t turns; if (!count) return PV_STATUS_OK; if (turns++ % 2) return PV_STATUS_CONTINUE;",
    ),
)

MUTANTS = (*DISPATCH, *BASE)
