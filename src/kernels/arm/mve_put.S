// What becomes of sums of products with Helium: f32(sum - zero * row sum) * (scale of the token * scale
// of the row), then the bias, the factor and the gate, and what is there.
//
// Helium's float instructions flush subnormal numbers. Products of scales below the normal range are
// told by the least scale of a row, for which `limit` is made; then nothing is done and 0 returned. A
// whole number times a normal one is normal or 0. All that follows may be subnormal: it is done in
// the float unit, whose registers are parts of Helium's.
//
// A layer is the addresses of scales, row sums, bias, and of tokens' scales and zero points, of the
// rows of outputs and the gates of tokens; a factor; the limit. Flags: 1 bias, 2 outputs are joined
// with what is there, 4 by multiplying, 8 factor, 16 gates, 32 rows of outputs.

    .syntax unified
    .thumb

// q2 = sums, q0 = row sums, \zero = -zero point, q1 = scales, \scale = the token's.
    .macro PM_SCALE zero, scale
    vmla.s32 q2, q0, \zero
    vmul.f32 q3, q1, \scale
    vcvt.f32.s32 q2, q2
    vmul.f32 q2, q2, q3
    .endm

// The four values of q2, each by itself.
    .macro PM_EACH op, a, b, c, d
    \op s8, s8, \a
    \op s9, s9, \b
    \op s10, s10, \c
    \op s11, s11, \d
    .endm

// Outputs of four rows that are stored, for all tokens, with a bias or without.
    .macro PM_FOUR bias
1:  ldr r4, [r8], #4
    ldr r5, [r7], #4
    vldrw.u32 q2, [r1], #16
    PM_SCALE r4, r5
    .if \bias
    PM_EACH vadd.f32, s16, s17, s18, s19
    .endif
    vstrw.32 q2, [r0]
    add r0, r0, r10
    le lr, 1b
    .endm

// Outputs of one token that are stored, for all rows, with a bias or without.
    .macro PM_ONE bias
1:  vldrw.u32 q2, [r1], #16
    vldrw.u32 q0, [r5], #16
    vldrw.u32 q1, [r4], #16
    PM_SCALE r8, r7
    .if \bias
    vldrw.u32 q3, [r6], #16
    PM_EACH vadd.f32, s12, s13, s14, s15
    .endif
    vstrw.32 q2, [r0], #16
    le lr, 1b
    .endm

// palmtop_mve_put_four(out, dots, tokens, layer, flags, pitch): four rows of several tokens, whose sums
// lie together; `pitch` bytes from token to token of the outputs. Whether that was done.
    .section .text.palmtop_mve_put_four, "ax", %progbits
    .global palmtop_mve_put_four
    .type palmtop_mve_put_four, %function
    .thumb_func
    .balign 4
palmtop_mve_put_four:
    push {r4-r10, lr}
    ldmia r3, {r4-r8}
    vldrw.u32 q1, [r4]
    ldr r12, [r3, #32]
    mvn r9, #0x80000000
    vminv.s32 r9, q1
    vldrw.u32 q0, [r5]
    vneg.s32 q0, q0
    cmp r9, r12
    blt 9f
    ldrd r4, r10, [sp, #32]
    dls lr, r2
    cbnz r4, 2f
    PM_FOUR 0
    movs r0, #1
    pop {r4-r10, pc}
9:  movs r0, #0
    pop {r4-r10, pc}
2:  vpush {s16-s21}
    mov r12, r4
    lsls r4, r12, #31
    bpl 3f
    vldmia r6, {s16-s19}
    cmp r12, #1
    beq 12f
3:  ldr r9, [r3, #20]
    ldr r6, [r3, #24]
    vldr s20, [r3, #28]
    mov r3, r0
4:  ldr r4, [r8], #4
    ldr r5, [r7], #4
    vldrw.u32 q2, [r1], #16
    PM_SCALE r4, r5
    lsls r4, r12, #31
    bpl 5f
    PM_EACH vadd.f32, s16, s17, s18, s19
5:  tst r12, #8
    beq 6f
    PM_EACH vmul.f32, s20, s20, s20, s20
6:  tst r12, #16
    beq 7f
    vldmia r6!, {s21}
    PM_EACH vmul.f32, s21, s21, s21, s21
7:  tst r12, #32
    beq 8f
    ldr r4, [r9], #4
    mla r0, r4, r10, r3
8:  tst r12, #2
    beq 11f
    vldrw.u32 q3, [r0]
    tst r12, #4
    bne 10f
    PM_EACH vadd.f32, s12, s13, s14, s15
    b 11f
10: PM_EACH vmul.f32, s12, s13, s14, s15
11: vstrw.32 q2, [r0]
    add r0, r0, r10
    le lr, 4b
    b 13f
12: PM_FOUR 1
13: vpop {s16-s21}
    movs r0, #1
    pop {r4-r10, pc}
    .size palmtop_mve_put_four, . - palmtop_mve_put_four

// palmtop_mve_put_one(out, dots, fours, layer, flags): four times `fours` rows of one token.
    .section .text.palmtop_mve_put_one, "ax", %progbits
    .global palmtop_mve_put_one
    .type palmtop_mve_put_one, %function
    .thumb_func
    .balign 4
palmtop_mve_put_one:
    push {r4-r10, lr}
    ldmia r3, {r4-r8}
    ldr r12, [r3, #32]
    mvn r9, #0x80000000
    mov r10, r4
    dls lr, r2
1:  vldrw.u32 q1, [r10], #16
    vminv.s32 r9, q1
    le lr, 1b
    cmp r9, r12
    blt 9f
    ldr r7, [r7]
    ldr r8, [r8]
    rsb r8, r8, #0
    ldr r12, [sp, #32]
    dls lr, r2
    cmp r12, #1
    bhi 3f
    beq 2f
    PM_ONE 0
    b 8f
2:  PM_ONE 1
8:  movs r0, #1
    pop {r4-r10, pc}
9:  movs r0, #0
    pop {r4-r10, pc}
3:  vpush {s16-s17}
    vldr s16, [r3, #28]
    tst r12, #16
    beq 4f
    ldr r9, [r3, #24]
    vldr s17, [r9]
4:  vldrw.u32 q2, [r1], #16
    vldrw.u32 q0, [r5], #16
    vldrw.u32 q1, [r4], #16
    PM_SCALE r8, r7
    lsls r10, r12, #31
    bpl 5f
    vldrw.u32 q3, [r6], #16
    PM_EACH vadd.f32, s12, s13, s14, s15
5:  tst r12, #8
    beq 6f
    PM_EACH vmul.f32, s16, s16, s16, s16
6:  tst r12, #16
    beq 7f
    PM_EACH vmul.f32, s17, s17, s17, s17
7:  tst r12, #2
    beq 11f
    vldrw.u32 q3, [r0]
    tst r12, #4
    bne 10f
    PM_EACH vadd.f32, s12, s13, s14, s15
    b 11f
10: PM_EACH vmul.f32, s12, s13, s14, s15
11: vstrw.32 q2, [r0], #16
    le lr, 4b
    vpop {s16-s17}
    movs r0, #1
    pop {r4-r10, pc}
    .size palmtop_mve_put_one, . - palmtop_mve_put_one
