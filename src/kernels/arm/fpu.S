// Products of float rows on Arm cores with a single-precision FPU, in the contract's eight lanes:
// each product is rounded before it is added.

    .syntax unified
    .thumb
    .fpu fpv4-sp-d16

// Eight products: s8-s15 by eight registers from s\w on, added to the lanes s0-s7.
    .macro PF_EIGHT w0, w1, w2, w3, w4, w5, w6, w7
    vmul.f32 s8, s8, s\w0
    vmul.f32 s9, s9, s\w1
    vmul.f32 s10, s10, s\w2
    vmul.f32 s11, s11, s\w3
    vmul.f32 s12, s12, s\w4
    vmul.f32 s13, s13, s\w5
    vmul.f32 s14, s14, s\w6
    vmul.f32 s15, s15, s\w7
    vadd.f32 s0, s0, s8
    vadd.f32 s1, s1, s9
    vadd.f32 s2, s2, s10
    vadd.f32 s3, s3, s11
    vadd.f32 s4, s4, s12
    vadd.f32 s5, s5, s13
    vadd.f32 s6, s6, s14
    vadd.f32 s7, s7, s15
    .endm

// Both halves of a register, widened exactly.
    .macro PF_WIDEN to, next, from
    vcvtb.f32.f16 s\to, s\from
    vcvtt.f32.f16 s\next, s\from
    .endm

// palmtop_fpu_dot(lanes, a, b, eights): adds `eights` times eight products to eight lanes.
    .section .text.palmtop_fpu_dot, "ax", %progbits
    .global palmtop_fpu_dot
    .type palmtop_fpu_dot, %function
    .thumb_func
    .balign 4
palmtop_fpu_dot:
    vpush {s16-s23}
    vldmia r0, {s0-s7}
1:  vldmia r1!, {s8-s15}
    vldmia r2!, {s16-s23}
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    subs r3, r3, #1
    bne 1b
    vstmia r0, {s0-s7}
    vpop {s16-s23}
    bx lr
    .size palmtop_fpu_dot, . - palmtop_fpu_dot

// The same with half-precision b.
    .section .text.palmtop_fpu_dot_f16, "ax", %progbits
    .global palmtop_fpu_dot_f16
    .type palmtop_fpu_dot_f16, %function
    .thumb_func
    .balign 4
palmtop_fpu_dot_f16:
    vpush {s16-s27}
    vldmia r0, {s0-s7}
1:  vldmia r1!, {s8-s15}
    vldmia r2!, {s24-s27}
    PF_WIDEN 16, 17, 24
    PF_WIDEN 18, 19, 25
    PF_WIDEN 20, 21, 26
    PF_WIDEN 22, 23, 27
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    subs r3, r3, #1
    bne 1b
    vstmia r0, {s0-s7}
    vpop {s16-s27}
    bx lr
    .size palmtop_fpu_dot_f16, . - palmtop_fpu_dot_f16

// name(lanes, x, w, shape): shape is the bytes from row to row of x, the number of rows, and the
// number of times sixteen weights; each row has eight lanes. Weights stay in s16-s31 for all rows.
    .macro PF_ROWS name, half
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 4
\name:
    push {r4-r8, lr}
    vpush {s16-s31}
    ldmia r3, {r3, r4, r5}
    sub r3, r3, #32
    .if \half
1:  vldmia r2!, {s8-s15}
    PF_WIDEN 16, 17, 8
    PF_WIDEN 18, 19, 9
    PF_WIDEN 20, 21, 10
    PF_WIDEN 22, 23, 11
    PF_WIDEN 24, 25, 12
    PF_WIDEN 26, 27, 13
    PF_WIDEN 28, 29, 14
    PF_WIDEN 30, 31, 15
    .else
1:  vldmia r2!, {s16-s31}
    .endif
    mov r6, r0
    mov r7, r1
    mov r8, r4
2:  vldmia r6, {s0-s7}
    vldmia r7!, {s8-s15}
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    vldmia r7, {s8-s15}
    PF_EIGHT 24, 25, 26, 27, 28, 29, 30, 31
    vstmia r6!, {s0-s7}
    add r7, r7, r3
    subs r8, r8, #1
    bne 2b
    add r1, r1, #64
    subs r5, r5, #1
    bne 1b
    vpop {s16-s31}
    pop {r4-r8, pc}
    .size \name, . - \name
    .endm

    PF_ROWS palmtop_fpu_rows, 0
    PF_ROWS palmtop_fpu_rows_f16, 1

// The four values of s8-s11, each by itself.
    .macro PF_EACH op, a, b, c, d
    \op s8, s8, \a
    \op s9, s9, \b
    \op s10, s10, \c
    \op s11, s11, \d
    .endm

// palmtop_fpu_put_one(out, dots, rows, layer, op): rows, four at a time, of one token. The layer is
// the addresses of scales, row sums, bias or 0, of the token's scale and zero point, of the rows that
// outputs of tokens go to and of their gates, and a factor; `op` is 0 where outputs are stored, 1 where
// they are added to what is there, 2 where they multiply it; 4 and 8 more where a factor and a gate
// come before that.
    .section .text.palmtop_fpu_put_one, "ax", %progbits
    .global palmtop_fpu_put_one
    .type palmtop_fpu_put_one, %function
    .thumb_func
    .balign 4
palmtop_fpu_put_one:
    push {r4-r11, lr}
    vpush {s16-s23}
    ldr r4, [sp, #68]
    cmp r4, #8
    blo 6f
    ldr r5, [r3, #24]
    vldr s1, [r3, #28]
    vldr s2, [r5]
6:  ldmia r3, {r3, r5, r7, r8, r9}
    vldr s0, [r8]
    ldr r6, [r9]
    // r3 scales, r5 sums, r7 bias, r6 zero point, r4 what to do.
1:  vldmia r3!, {s16-s19}
    cbz r7, 2f
    vldmia r7!, {s20-s23}
2:  ldr r12, [r5], #4
    ldr lr, [r5], #4
    ldmia r1!, {r8-r11}
    mls r8, r6, r12, r8
    mls r9, r6, lr, r9
    ldr r12, [r5], #4
    ldr lr, [r5], #4
    mls r10, r6, r12, r10
    mls r11, r6, lr, r11
    vmov s8, s9, r8, r9
    vmov s10, s11, r10, r11
    vmul.f32 s12, s0, s16
    vmul.f32 s13, s0, s17
    vmul.f32 s14, s0, s18
    vmul.f32 s15, s0, s19
    vcvt.f32.s32 s8, s8
    vcvt.f32.s32 s9, s9
    vcvt.f32.s32 s10, s10
    vcvt.f32.s32 s11, s11
    vmul.f32 s8, s8, s12
    vmul.f32 s9, s9, s13
    vmul.f32 s10, s10, s14
    vmul.f32 s11, s11, s15
    cbz r7, 3f
    vadd.f32 s8, s8, s20
    vadd.f32 s9, s9, s21
    vadd.f32 s10, s10, s22
    vadd.f32 s11, s11, s23
3:  cbz r4, 4f
    cmp r4, #8
    bhs 7f
9:  vldmia r0, {s12-s15}
    tst r4, #2
    bne 5f
    vadd.f32 s8, s12, s8
    vadd.f32 s9, s13, s9
    vadd.f32 s10, s14, s10
    vadd.f32 s11, s15, s11
4:  vstmia r0!, {s8-s11}
    subs r2, r2, #4
    bne 1b
    vpop {s16-s23}
    pop {r4-r11, pc}
5:  vmul.f32 s8, s12, s8
    vmul.f32 s9, s13, s9
    vmul.f32 s10, s14, s10
    vmul.f32 s11, s15, s11
    b 4b
7:  tst r4, #4
    beq 8f
    PF_EACH vmul.f32, s1, s1, s1, s1
8:  PF_EACH vmul.f32, s2, s2, s2, s2
    tst r4, #3
    bne 9b
    b 4b
    .size palmtop_fpu_put_one, . - palmtop_fpu_put_one

// palmtop_fpu_put_four(out, dots, tokens, layer, flags, pitch): four rows of several tokens, whose
// scales and zero points follow each other; `pitch` bytes from token to token of the outputs. Flags: 1
// there is a bias, 2 there is more than storing, 4 outputs multiply what is there, 128 they are added to
// it, 8 a factor and 16 a gate come before that, 32 a gate for each token and not one for all, 64
// tokens' outputs go to rows of their own.
    .section .text.palmtop_fpu_put_four, "ax", %progbits
    .global palmtop_fpu_put_four
    .type palmtop_fpu_put_four, %function
    .thumb_func
    .balign 4
palmtop_fpu_put_four:
    push {r4-r11, lr}
    vpush {s16-s23}
    ldr r10, [r3, #20]
    ldr r11, [r3, #24]
    vldr s1, [r3, #28]
    ldmia r3, {r3, r5, r7, r8, r9}
    vldmia r3, {s16-s19}
    cbz r7, 1f
    vldmia r7, {s20-s23}
1:  ldmia r5, {r4, r5, r12, lr}
    // r4, r5, r12, lr sums of rows, r3 scales of tokens.
    mov r3, r8
    push {r0, r2, r9-r11}
    // [sp] outputs, [sp+4] tokens left, [sp+8] zero points, [sp+12] rows of outputs, [sp+16] gates,
    // [sp+88] flags, [sp+92] pitch. r2 bytes from row to row.
    lsl r2, r2, #2
2:  vldmia r3!, {s0}
    ldr r6, [sp, #8]
    add r11, r1, r2
    ldr r8, [r1], #4
    ldr r9, [r11]
    ldr r10, [r11, r2]
    ldr r11, [r11, r2, lsl #1]
    ldr r7, [r6], #4
    str r6, [sp, #8]
    mls r8, r7, r4, r8
    mls r9, r7, r5, r9
    mls r10, r7, r12, r10
    mls r11, r7, lr, r11
    vmov s8, s9, r8, r9
    vmov s10, s11, r10, r11
    vmul.f32 s12, s0, s16
    vmul.f32 s13, s0, s17
    vmul.f32 s14, s0, s18
    vmul.f32 s15, s0, s19
    vcvt.f32.s32 s8, s8
    vcvt.f32.s32 s9, s9
    vcvt.f32.s32 s10, s10
    vcvt.f32.s32 s11, s11
    vmul.f32 s8, s8, s12
    vmul.f32 s9, s9, s13
    vmul.f32 s10, s10, s14
    vmul.f32 s11, s11, s15
    ldrd r8, r9, [sp, #88]
    lsls r10, r8, #31
    bpl 3f
    vadd.f32 s8, s8, s20
    vadd.f32 s9, s9, s21
    vadd.f32 s10, s10, s22
    vadd.f32 s11, s11, s23
3:  bcc 4f
    tst r8, #16
    bne 6f
7:  vldmia r0, {s12-s15}
    lsls r10, r8, #29
    bmi 5f
    vadd.f32 s8, s12, s8
    vadd.f32 s9, s13, s9
    vadd.f32 s10, s14, s10
    vadd.f32 s11, s15, s11
4:  vstmia r0, {s8-s11}
    ldr r6, [sp, #4]
    add r0, r0, r9
    subs r6, r6, #1
    str r6, [sp, #4]
    bne 2b
    add sp, sp, #20
    vpop {s16-s23}
    pop {r4-r11, pc}
5:  vmul.f32 s8, s12, s8
    vmul.f32 s9, s13, s9
    vmul.f32 s10, s14, s10
    vmul.f32 s11, s15, s11
    b 4b
6:  tst r8, #8
    beq 8f
    PF_EACH vmul.f32, s1, s1, s1, s1
8:  ldr r6, [sp, #16]
    vldr s2, [r6]
    tst r8, #32
    itt ne
    addne r6, r6, #4
    strne r6, [sp, #16]
    PF_EACH vmul.f32, s2, s2, s2, s2
    tst r8, #64
    beq 9f
    ldr r6, [sp, #12]
    ldr r7, [r6], #4
    str r6, [sp, #12]
    ldr r6, [sp]
    mla r0, r7, r9, r6
9:  tst r8, #132
    bne 7b
    b 4b
    .size palmtop_fpu_put_four, . - palmtop_fpu_put_four
