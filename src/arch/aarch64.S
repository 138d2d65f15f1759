/*
 * AArch64, AAPCS64 on Linux: see arch.h for what each function promises.
 *
 * Unwind information (CFI) holds at every instruction, also between the two stacks: signals arrive
 * anywhere. Every function entered by an indirect branch starts with the landing pad of branch target
 * identification (`hint 34` is `bti c`, a no-op elsewhere). Return addresses are kept unsigned here;
 * callers that sign theirs are not affected, since they do so before they call and after we return.
 */

#define LANDING hint 34

/* Offsets in struct wr_saved. */
#define SAVED_FPCR  0
#define SAVED_FRAME 16
#define SAVED_X19   32
#define SAVED_D8    112
#define SAVED_SIZE  176

/* Offsets in struct wr_args and struct wr_start. */
#define ARG_INTEGER(i) (8 * (i))
#define ARG_VECTOR(i)  (64 + 16 * (i))
#define ARGS_SIZE      192
#define START_FN       (ARGS_SIZE + 8)

	.text

/* void *wr_switch(void **save_sp: x0, void *load_sp: x1, void *arg: x2) */
	.globl	wr_switch
	.hidden	wr_switch
	.type	wr_switch, %function
	.p2align 4
wr_switch:
	.cfi_startproc
	LANDING
	sub	sp, sp, SAVED_SIZE
	.cfi_def_cfa_offset SAVED_SIZE
	stp	x29, x30, [sp, SAVED_FRAME]
	.cfi_rel_offset x29, SAVED_FRAME
	.cfi_rel_offset x30, SAVED_FRAME + 8
	mrs	x3, fpcr
	stp	x19, x20, [sp, SAVED_X19]
	.cfi_rel_offset x19, SAVED_X19
	.cfi_rel_offset x20, SAVED_X19 + 8
	stp	x21, x22, [sp, SAVED_X19 + 16]
	.cfi_rel_offset x21, SAVED_X19 + 16
	.cfi_rel_offset x22, SAVED_X19 + 24
	stp	x23, x24, [sp, SAVED_X19 + 32]
	.cfi_rel_offset x23, SAVED_X19 + 32
	.cfi_rel_offset x24, SAVED_X19 + 40
	stp	x25, x26, [sp, SAVED_X19 + 48]
	.cfi_rel_offset x25, SAVED_X19 + 48
	.cfi_rel_offset x26, SAVED_X19 + 56
	stp	x27, x28, [sp, SAVED_X19 + 64]
	.cfi_rel_offset x27, SAVED_X19 + 64
	.cfi_rel_offset x28, SAVED_X19 + 72
	stp	d8, d9, [sp, SAVED_D8]
	.cfi_rel_offset d8, SAVED_D8
	.cfi_rel_offset d9, SAVED_D8 + 8
	stp	d10, d11, [sp, SAVED_D8 + 16]
	.cfi_rel_offset d10, SAVED_D8 + 16
	.cfi_rel_offset d11, SAVED_D8 + 24
	stp	d12, d13, [sp, SAVED_D8 + 32]
	.cfi_rel_offset d12, SAVED_D8 + 32
	.cfi_rel_offset d13, SAVED_D8 + 40
	stp	d14, d15, [sp, SAVED_D8 + 48]
	.cfi_rel_offset d14, SAVED_D8 + 48
	.cfi_rel_offset d15, SAVED_D8 + 56
	str	x3, [sp, SAVED_FPCR]

	/* From here the frame described is the other context's: same layout, other stack. */
	mov	x4, sp
	str	x4, [x0]
	mov	sp, x1

	ldr	x4, [sp, SAVED_FPCR]
	cmp	x3, x4
	b.ne	.Lcontrol_word_differs
.Lrestore:
	mov	x0, x2
.Lparked:
	ldp	x29, x30, [sp, SAVED_FRAME]
	ldp	x19, x20, [sp, SAVED_X19]
	ldp	x21, x22, [sp, SAVED_X19 + 16]
	ldp	x23, x24, [sp, SAVED_X19 + 32]
	ldp	x25, x26, [sp, SAVED_X19 + 48]
	ldp	x27, x28, [sp, SAVED_X19 + 64]
	ldp	d8, d9, [sp, SAVED_D8]
	ldp	d10, d11, [sp, SAVED_D8 + 16]
	ldp	d12, d13, [sp, SAVED_D8 + 32]
	ldp	d14, d15, [sp, SAVED_D8 + 48]
	/* The registers are restored, and still on the stack: both descriptions hold until sp moves. */
	.cfi_remember_state
	add	sp, sp, SAVED_SIZE
	.cfi_def_cfa_offset 0
	.cfi_restore x29
	.cfi_restore x30
	.cfi_restore x19
	.cfi_restore x20
	.cfi_restore x21
	.cfi_restore x22
	.cfi_restore x23
	.cfi_restore x24
	.cfi_restore x25
	.cfi_restore x26
	.cfi_restore x27
	.cfi_restore x28
	.cfi_restore d8
	.cfi_restore d9
	.cfi_restore d10
	.cfi_restore d11
	.cfi_restore d12
	.cfi_restore d13
	.cfi_restore d14
	.cfi_restore d15
	/* A return, not a branch: it keeps the processor's stack of return addresses paired, so that the
	   returns after this one are predicted where both contexts parked by the same path. */
	ret

	.cfi_restore_state
.Lcontrol_word_differs:
	msr	fpcr, x4
	b	.Lrestore
	.cfi_endproc
	.size	wr_switch, . - wr_switch

/* Where in wr_switch a parked context can be said to stand: with its saved stack pointer, the description of the frame holds here and
   at the instruction before. A debugger reads it. */
	.section .rodata
	.globl	wr_switch_parked
	.hidden	wr_switch_parked
	.type	wr_switch_parked, %object
	.p2align 3
wr_switch_parked:
	.xword	.Lparked - wr_switch
	.size	wr_switch_parked, . - wr_switch_parked
	.text

/*
 * The first frame of a goroutine. wr_switch "returns" to wr_entry_start with arg in x0 and sp at
 * struct wr_start. There is no caller, which is what the undefined x30 says. The nop is for unwinders:
 * they look up the address before a return address, and must find this function for a goroutine that
 * never ran.
 */
	.globl	wr_entry, wr_entry_start, wr_entry_end
	.hidden	wr_entry, wr_entry_start, wr_entry_end
	.type	wr_entry, %function
	.p2align 4
wr_entry:
	.cfi_startproc
	.cfi_undefined x30
	nop
wr_entry_start:
	bl	wr_goroutine_begin

	ldp	x0, x1, [sp, ARG_INTEGER(0)]
	ldp	x2, x3, [sp, ARG_INTEGER(2)]
	ldp	x4, x5, [sp, ARG_INTEGER(4)]
	ldp	x6, x7, [sp, ARG_INTEGER(6)]
	ldp	q0, q1, [sp, ARG_VECTOR(0)]
	ldp	q2, q3, [sp, ARG_VECTOR(2)]
	ldp	q4, q5, [sp, ARG_VECTOR(4)]
	ldp	q6, q7, [sp, ARG_VECTOR(6)]

	/* An argument that fn has let go of must not be found on its stack by the leak scan. */
	.set	.Lwiped, 0
	.rept	ARGS_SIZE / 16
	stp	xzr, xzr, [sp, .Lwiped]
	.set	.Lwiped, .Lwiped + 16
	.endr

	ldr	x16, [sp, START_FN]
	add	sp, sp, ARGS_SIZE
	blr	x16

	bl	wr_goroutine_end
	brk	0
	.cfi_endproc
wr_entry_end:
	.size	wr_entry, . - wr_entry

/* Called through some other function's type, so every argument register may be live; x16 and x17 are
   nobody's across a call. */
	.globl	weir_go_capture_
	.type	weir_go_capture_, %function
	.p2align 4
weir_go_capture_:
	.cfi_startproc
	LANDING
	adrp	x16, :gottprel:wr_captured_args
	ldr	x16, [x16, :gottprel_lo12:wr_captured_args]
	mrs	x17, tpidr_el0
	add	x16, x16, x17
	stp	x0, x1, [x16, ARG_INTEGER(0)]
	stp	x2, x3, [x16, ARG_INTEGER(2)]
	stp	x4, x5, [x16, ARG_INTEGER(4)]
	stp	x6, x7, [x16, ARG_INTEGER(6)]
	stp	q0, q1, [x16, ARG_VECTOR(0)]
	stp	q2, q3, [x16, ARG_VECTOR(2)]
	stp	q4, q5, [x16, ARG_VECTOR(4)]
	stp	q6, q7, [x16, ARG_VECTOR(6)]
	ret
	.cfi_endproc
	.size	weir_go_capture_, . - weir_go_capture_

/* void wr_call_on(void *stack_top: x0, void (*fn)(void *): x1, void *arg: x2) */
	.globl	wr_call_on
	.hidden	wr_call_on
	.type	wr_call_on, %function
	.p2align 4
wr_call_on:
	.cfi_startproc
	LANDING
	stp	x29, x30, [sp, -16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x29, -16
	.cfi_offset x30, -8
	mov	x29, sp
	.cfi_def_cfa_register x29
	mov	sp, x0
	mov	x0, x2
	mov	x16, x1
	blr	x16
	mov	sp, x29
	.cfi_def_cfa_register sp
	ldp	x29, x30, [sp], 16
	.cfi_def_cfa_offset 0
	.cfi_restore x29
	.cfi_restore x30
	ret
	.cfi_endproc
	.size	wr_call_on, . - wr_call_on

/*
 * Two frames for the unwinder. Each calls fn(arg), and its unwind information says that it was called
 * by somebody else: by the code that a parked context will return to, or by the code that a signal
 * interrupted. fn then asks the unwinder for a backtrace as usual. Nothing is written to the stack
 * that is walked. (A debugger that stops inside fn shows that stack too.)
 */

/* void wr_as_parked(const struct wr_saved *saved: x0, void (*fn)(void *): x1, void *arg: x2) */
	.globl	wr_as_parked
	.hidden	wr_as_parked
	.type	wr_as_parked, %function
	.p2align 4
wr_as_parked:
	.cfi_startproc
	LANDING
	stp	x19, x30, [sp, -16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x19, -16
	.cfi_offset x30, -8
	mov	x19, x0
	mov	x0, x2
	/* The frame of wr_switch after its last store, with x19 in the place of sp. */
	.cfi_remember_state
	.cfi_def_cfa x19, SAVED_SIZE
	.cfi_rel_offset x29, SAVED_FRAME
	.cfi_rel_offset x30, SAVED_FRAME + 8
	.cfi_rel_offset x19, SAVED_X19
	.cfi_rel_offset x20, SAVED_X19 + 8
	.cfi_rel_offset x21, SAVED_X19 + 16
	.cfi_rel_offset x22, SAVED_X19 + 24
	.cfi_rel_offset x23, SAVED_X19 + 32
	.cfi_rel_offset x24, SAVED_X19 + 40
	.cfi_rel_offset x25, SAVED_X19 + 48
	.cfi_rel_offset x26, SAVED_X19 + 56
	.cfi_rel_offset x27, SAVED_X19 + 64
	.cfi_rel_offset x28, SAVED_X19 + 72
	.cfi_rel_offset d8, SAVED_D8
	.cfi_rel_offset d9, SAVED_D8 + 8
	.cfi_rel_offset d10, SAVED_D8 + 16
	.cfi_rel_offset d11, SAVED_D8 + 24
	.cfi_rel_offset d12, SAVED_D8 + 32
	.cfi_rel_offset d13, SAVED_D8 + 40
	.cfi_rel_offset d14, SAVED_D8 + 48
	.cfi_rel_offset d15, SAVED_D8 + 56
	blr	x1
	.cfi_restore_state
	ldp	x19, x30, [sp], 16
	.cfi_def_cfa_offset 0
	.cfi_restore x19
	.cfi_restore x30
	ret
	.cfi_endproc
	.size	wr_as_parked, . - wr_as_parked

/*
 * void wr_as_interrupted(const struct wr_registers *registers: x0, void (*fn)(void *): x1, void *arg: x2)
 *
 * An interrupted function may keep anything anywhere, so every general register is described, by
 * expressions relative to x19: DW_CFA_expression (0x10) and DW_CFA_def_cfa_expression (0x0f),
 * DW_OP_breg19 (0x83) with the offset as a two-byte SLEB128, DW_OP_deref (0x06). A signal frame, so
 * that the pc is looked up as it is, not as a return address.
 *
 * The interrupted pc and x30 are two values, and the return column can hold only one: it is column 96,
 * which GCC keeps for signal frames, and the rest of the function has to describe it as well.
 */
	.macro	found_at register, place
	.cfi_escape 0x10, \register, 3, 0x83, ((8 * \place) & 0x7f) | 0x80, (8 * \place) >> 7
	.endm

	.globl	wr_as_interrupted
	.hidden	wr_as_interrupted
	.type	wr_as_interrupted, %function
	.p2align 4
wr_as_interrupted:
	.cfi_startproc
	.cfi_signal_frame
	.cfi_return_column 96
	.cfi_escape 0x09, 96, 30	/* DW_CFA_register: in x30 */
	LANDING
	stp	x19, x30, [sp, -16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x19, -16
	.cfi_offset x30, -8
	.cfi_escape 0x05, 96, 1		/* DW_CFA_offset_extended: also at -8 */
	mov	x19, x0
	mov	x0, x2
	.cfi_remember_state
	.cfi_escape 0x0f, 4, 0x83, ((8 * 31) & 0x7f) | 0x80, (8 * 31) >> 7, 0x06	/* the interrupted sp */
	.irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	found_at \register, \register
	.endr
	found_at 96, 32
	blr	x1
	.cfi_restore_state
	ldp	x19, x30, [sp], 16
	.cfi_def_cfa_offset 0
	.cfi_restore x19
	.cfi_restore x30
	.cfi_escape 0x09, 96, 30
	ret
	.cfi_endproc
	.size	wr_as_interrupted, . - wr_as_interrupted

	.section .note.GNU-stack, "", %progbits

#if defined(__ARM_FEATURE_BTI_DEFAULT)
	/* GNU_PROPERTY_AARCH64_FEATURE_1_AND = BTI */
	.section .note.gnu.property, "a", %note
	.p2align 3
	.long	4, 16, 5
	.asciz	"GNU"
	.long	0xc0000000, 4, 1, 0
#endif
