/*
 * x86-64, System V ABI: see arch.h for what each function promises.
 *
 * Unwind information (CFI) holds at every instruction, also between the two stacks: signals arrive
 * anywhere. Indirect-branch tracking is supported (endbr64, property note at the end); shadow stacks
 * are not, since each goroutine would need one, so the note does not claim them.
 */

#if defined(__CET__) && (__CET__ & 1)
#define LANDING endbr64
#else
#define LANDING
#endif

/* Offsets in struct wr_saved. */
#define SAVED_MXCSR 0
#define SAVED_X87   4
#define SAVED_SIZE  64

/* Offsets in struct wr_args and struct wr_start. */
#define ARG_INTEGER(i) (8 * (i))
#define ARG_VECTOR(i)  (48 + 16 * (i))
#define ARGS_SIZE      176
#define START_FN       (ARGS_SIZE + 8)

/* The bits of MXCSR that control, as opposed to those that report. */
#define MXCSR_CONTROL 0xffc0

	.text

/* void *wr_switch(void **save_sp: rdi, void *load_sp: rsi, void *arg: rdx) */
	.globl	wr_switch
	.hidden	wr_switch
	.type	wr_switch, @function
	.p2align 4
wr_switch:
	.cfi_startproc
	LANDING
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	pushq	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r12, 0
	pushq	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r13, 0
	pushq	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r14, 0
	pushq	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r15, 0
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	stmxcsr	SAVED_MXCSR(%rsp)
	fnstcw	SAVED_X87(%rsp)
	movl	SAVED_MXCSR(%rsp), %eax
	movzwl	SAVED_X87(%rsp), %ecx

	/* From here the frame described is the other context's: same layout, other stack. */
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp

	xorl	SAVED_MXCSR(%rsp), %eax
	xorw	SAVED_X87(%rsp), %cx
	andl	$MXCSR_CONTROL, %eax
	orl	%ecx, %eax
	jnz	.Lcontrol_words_differ
.Lrestore:
	movq	%rdx, %rax
.Lparked:
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore r15
	popq	%r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore r14
	popq	%r13
	.cfi_adjust_cfa_offset -8
	.cfi_restore r13
	popq	%r12
	.cfi_adjust_cfa_offset -8
	.cfi_restore r12
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbp
	/* A return, not a jump: it keeps the processor's stack of return addresses paired, so that the
	   returns after this one are predicted where both contexts parked by the same path. */
	ret

	.cfi_def_cfa rsp, SAVED_SIZE
	.cfi_offset rbp, -16
	.cfi_offset rbx, -24
	.cfi_offset r12, -32
	.cfi_offset r13, -40
	.cfi_offset r14, -48
	.cfi_offset r15, -56
.Lcontrol_words_differ:
	/* A status flag left by the other context would trap at once if this one unmasks it. */
	fnclex
	fldcw	SAVED_X87(%rsp)
	ldmxcsr	SAVED_MXCSR(%rsp)
	jmp	.Lrestore
	.cfi_endproc
	.size	wr_switch, . - wr_switch

/* Where in wr_switch a parked context can be said to stand: with its saved stack pointer, the description of the frame holds here and
   at the instruction before. A debugger reads it. */
	.section .rodata
	.globl	wr_switch_parked
	.hidden	wr_switch_parked
	.type	wr_switch_parked, @object
	.p2align 3
wr_switch_parked:
	.quad	.Lparked - wr_switch
	.size	wr_switch_parked, . - wr_switch_parked
	.text

/*
 * The first frame of a goroutine. wr_switch "returns" to wr_entry_start with arg in rax and rsp at
 * struct wr_start. There is no caller, which is what the undefined rip says. The nop is for unwinders:
 * they look up the address before a return address, and must find this function for a goroutine that
 * never ran.
 */
	.globl	wr_entry, wr_entry_start, wr_entry_end
	.hidden	wr_entry, wr_entry_start, wr_entry_end
	.type	wr_entry, @function
	.p2align 4
wr_entry:
	.cfi_startproc
	.cfi_def_cfa_offset ARGS_SIZE + 8
	.cfi_undefined rip
	nop
wr_entry_start:
	movq	%rax, %rdi
	call	wr_goroutine_begin

	movq	ARG_INTEGER(0)(%rsp), %rdi
	movq	ARG_INTEGER(1)(%rsp), %rsi
	movq	ARG_INTEGER(2)(%rsp), %rdx
	movq	ARG_INTEGER(3)(%rsp), %rcx
	movq	ARG_INTEGER(4)(%rsp), %r8
	movq	ARG_INTEGER(5)(%rsp), %r9
	movaps	ARG_VECTOR(0)(%rsp), %xmm0
	movaps	ARG_VECTOR(1)(%rsp), %xmm1
	movaps	ARG_VECTOR(2)(%rsp), %xmm2
	movaps	ARG_VECTOR(3)(%rsp), %xmm3
	movaps	ARG_VECTOR(4)(%rsp), %xmm4
	movaps	ARG_VECTOR(5)(%rsp), %xmm5
	movaps	ARG_VECTOR(6)(%rsp), %xmm6
	movaps	ARG_VECTOR(7)(%rsp), %xmm7

	/* An argument that fn has let go of must not be found on its stack by the leak scan. */
	pxor	%xmm8, %xmm8
	.set	.Lwiped, 0
	.rept	ARGS_SIZE / 16
	movaps	%xmm8, .Lwiped(%rsp)
	.set	.Lwiped, .Lwiped + 16
	.endr

	movq	START_FN(%rsp), %r11
	addq	$ARGS_SIZE, %rsp
	.cfi_def_cfa_offset 8
	movl	$8, %eax		/* to a variadic fn: up to eight vector registers are in use */
	call	*%r11

	movq	%rax, %rdi
	call	wr_goroutine_end
	ud2
	.cfi_endproc
wr_entry_end:
	.size	wr_entry, . - wr_entry

/* Called through some other function's type, so every argument register may be live, and only those
   and rax are known to be free of a caller's value. */
	.globl	weir_go_capture_
	.type	weir_go_capture_, @function
	.p2align 4
weir_go_capture_:
	.cfi_startproc
	LANDING
	movq	wr_captured_args@gottpoff(%rip), %rax
	movq	%rdi, %fs:ARG_INTEGER(0)(%rax)
	movq	%rsi, %fs:ARG_INTEGER(1)(%rax)
	movq	%rdx, %fs:ARG_INTEGER(2)(%rax)
	movq	%rcx, %fs:ARG_INTEGER(3)(%rax)
	movq	%r8, %fs:ARG_INTEGER(4)(%rax)
	movq	%r9, %fs:ARG_INTEGER(5)(%rax)
	movaps	%xmm0, %fs:ARG_VECTOR(0)(%rax)
	movaps	%xmm1, %fs:ARG_VECTOR(1)(%rax)
	movaps	%xmm2, %fs:ARG_VECTOR(2)(%rax)
	movaps	%xmm3, %fs:ARG_VECTOR(3)(%rax)
	movaps	%xmm4, %fs:ARG_VECTOR(4)(%rax)
	movaps	%xmm5, %fs:ARG_VECTOR(5)(%rax)
	movaps	%xmm6, %fs:ARG_VECTOR(6)(%rax)
	movaps	%xmm7, %fs:ARG_VECTOR(7)(%rax)
	ret
	.cfi_endproc
	.size	weir_go_capture_, . - weir_go_capture_

/* void wr_call_on(void *stack_top: rdi, void (*fn)(void *): rsi, void *arg: rdx) */
	.globl	wr_call_on
	.hidden	wr_call_on
	.type	wr_call_on, @function
	.p2align 4
wr_call_on:
	.cfi_startproc
	LANDING
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register rbp
	movq	%rdi, %rsp
	movq	%rdx, %rdi
	call	*%rsi
	movq	%rbp, %rsp
	.cfi_def_cfa_register rsp
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbp
	ret
	.cfi_endproc
	.size	wr_call_on, . - wr_call_on

/*
 * Two frames for the unwinder. Each calls fn(arg), and its unwind information says that it was called
 * by somebody else: by the code that a parked context will return to, or by the code that a signal
 * interrupted. fn then asks the unwinder for a backtrace as usual. Nothing is written to the stack
 * that is walked. (A debugger that stops inside fn shows that stack too.)
 */

/* void wr_as_parked(const struct wr_saved *saved: rdi, void (*fn)(void *): rsi, void *arg: rdx) */
	.globl	wr_as_parked
	.hidden	wr_as_parked
	.type	wr_as_parked, @function
	.p2align 4
wr_as_parked:
	.cfi_startproc
	LANDING
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	movq	%rdi, %rbx
	movq	%rdx, %rdi
	/* The frame of wr_switch after its last push, with rbx in the place of rsp. */
	.cfi_remember_state
	.cfi_def_cfa rbx, SAVED_SIZE
	.cfi_offset rbp, -16
	.cfi_offset rbx, -24
	.cfi_offset r12, -32
	.cfi_offset r13, -40
	.cfi_offset r14, -48
	.cfi_offset r15, -56
	call	*%rsi
	.cfi_restore_state
	popq	%rbx
	.cfi_def_cfa_offset 8
	.cfi_restore rbx
	ret
	.cfi_endproc
	.size	wr_as_parked, . - wr_as_parked

/*
 * void wr_as_interrupted(const struct wr_registers *registers: rdi, void (*fn)(void *): rsi, void *arg: rdx)
 *
 * An interrupted function may keep anything anywhere, so every register is described, by expressions
 * relative to rbx, as a C library describes its signal trampoline: DW_CFA_expression (0x10) and
 * DW_CFA_def_cfa_expression (0x0f), DW_OP_breg3 (0x73) with the offset as a two-byte SLEB128,
 * DW_OP_deref (0x06). A signal frame, so that the pc is looked up as it is, not as a return address.
 */
	.macro	found_at register
	.cfi_escape 0x10, \register, 3, 0x73, ((8 * \register) & 0x7f) | 0x80, (8 * \register) >> 7
	.endm

	.globl	wr_as_interrupted
	.hidden	wr_as_interrupted
	.type	wr_as_interrupted, @function
	.p2align 4
wr_as_interrupted:
	.cfi_startproc
	.cfi_signal_frame
	LANDING
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	movq	%rdi, %rbx
	movq	%rdx, %rdi
	.cfi_remember_state
	.cfi_escape 0x0f, 4, 0x73, ((8 * 7) & 0x7f) | 0x80, (8 * 7) >> 7, 0x06	/* the interrupted rsp */
	.irp register, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16
	found_at \register
	.endr
	call	*%rsi
	.cfi_restore_state
	popq	%rbx
	.cfi_def_cfa_offset 8
	.cfi_restore rbx
	ret
	.cfi_endproc
	.size	wr_as_interrupted, . - wr_as_interrupted

	.section .note.GNU-stack, "", @progbits

#if defined(__CET__) && (__CET__ & 1)
	/* GNU_PROPERTY_X86_FEATURE_1_AND = IBT */
	.section .note.gnu.property, "a", @note
	.p2align 3
	.long	4, 16, 5
	.asciz	"GNU"
	.long	0xc0000002, 4, 1, 0
#endif
