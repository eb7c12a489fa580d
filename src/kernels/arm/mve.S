// Products of int8 matrices with Helium (Cortex-M55, M85): VMLADAVA multiplies sixteen pairs of bytes
// and adds all products to a register with an even number.

    .syntax unified
    .thumb

// Four rows by sixteen columns.
    .macro PM_GEMV
    vldrb.s8 q0, [r1], #16
    vldrb.s8 q1, [r0], #16
    vldrb.s8 q2, [r3], #16
    vmladava.s8 r4, q0, q1
    vldrb.s8 q3, [r5], #16
    vmladava.s8 r6, q0, q2
    vldrb.s8 q1, [r9], #16
    vmladava.s8 r8, q0, q3
    vmladava.s8 r10, q0, q1
    .endm

// palmtop_mve_gemv(w, x, sums, stride, blocks): `blocks` times four rows of `stride` bytes in order.
    .section .text.palmtop_mve_gemv, "ax", %progbits
    .global palmtop_mve_gemv
    .type palmtop_mve_gemv, %function
    .thumb_func
    .balign 4
palmtop_mve_gemv:
    push {r4-r11, lr}
    // r7 x, r11 stride, r12 quarters of its groups of 16 columns; [sp+36] blocks.
    mov r7, r1
    mov r11, r3
    lsr r12, r3, #6
    mov r9, r0
1:  mov r0, r9
    add r3, r0, r11
    add r5, r3, r11
    add r9, r5, r11
    mov r1, r7
    mov r4, #0
    mov r6, #0
    mov r8, #0
    mov r10, #0
    wls lr, r12, 3f
2:  PM_GEMV
    PM_GEMV
    PM_GEMV
    PM_GEMV
    le lr, 2b
3:  ubfx lr, r11, #4, #2
    wls lr, lr, 4f
5:  PM_GEMV
    le lr, 5b
4:  stmia r2!, {r4, r6, r8, r10}
    ldr r4, [sp, #36]
    subs r4, r4, #1
    str r4, [sp, #36]
    bne 1b
    pop {r4-r11, pc}
    .size palmtop_mve_gemv, . - palmtop_mve_gemv

// palmtop_mve_near(w, near, groups, stride): copies sixteen bytes of each of four rows in turn.
    .section .text.palmtop_mve_near, "ax", %progbits
    .global palmtop_mve_near
    .type palmtop_mve_near, %function
    .thumb_func
    .balign 4
palmtop_mve_near:
    push {r4, r5, r6, lr}
    add r4, r0, r3
    add r5, r4, r3
    add r6, r5, r3
    dls lr, r2
1:  vldrb.8 q0, [r0], #16
    vldrb.8 q1, [r4], #16
    vldrb.8 q2, [r5], #16
    vldrb.8 q3, [r6], #16
    vstrb.8 q0, [r1], #16
    vstrb.8 q1, [r1], #16
    vstrb.8 q2, [r1], #16
    vstrb.8 q3, [r1], #16
    le lr, 1b
    pop {r4, r5, r6, pc}
    .size palmtop_mve_near, . - palmtop_mve_near

// Four rows by two tokens by sixteen columns: r1 near weights, r3 and r5 activations. Rows of the one
// token are added up in r0, r2, r4, r6, those of the other in r8, r10, r12, lr.
    .macro PM_GEMM
    vldrb.s8 q2, [r3], #16
    vldrb.s8 q0, [r1], #16
    vldrb.s8 q3, [r5], #16
    vmladava.s8 r0, q0, q2
    vldrb.s8 q1, [r1], #16
    vmladava.s8 r8, q0, q3
    vmladava.s8 r2, q1, q2
    vldrb.s8 q0, [r1], #16
    vmladava.s8 r10, q1, q3
    vmladava.s8 r4, q0, q2
    vldrb.s8 q1, [r1], #16
    vmladava.s8 r12, q0, q3
    vmladava.s8 r6, q1, q2
    vmladava.s8 lr, q1, q3
    .endm

// palmtop_mve_gemm(near, x, sums, groups, pitch, tokens, first): the products of four rows of near
// weights with rows of activations, `pitch` bytes from one to the next. The sums of a token's four
// rows lie together, an even number of tokens has room; products are added to them, or where `first`
// is not 0 to zeros.
    .section .text.palmtop_mve_gemm, "ax", %progbits
    .global palmtop_mve_gemm
    .type palmtop_mve_gemm, %function
    .thumb_func
    .balign 4
palmtop_mve_gemm:
    push {r0, r3-r11, lr}
    // [sp] near, [sp+4] rounds of the loop, [sp+44] from the end of a pair of rows of activations to the
    // next one, [sp+48] where in the loop its first round starts, [sp+52] groups.
    // r3, r5 rows of activations, r9 sums, r11 tokens left.
    mov r9, r2
    ldrd r4, r11, [sp, #44]
    ldr r12, [sp, #52]
    cmp r12, #0
    beq 10f
    vmov.i32 q0, #0
    add r12, r11, #1
    lsr r12, r12, #1
    dls lr, r12
9:  vstrw.32 q0, [r2], #16
    vstrw.32 q0, [r2], #16
    le lr, 9b
    // The first round skips what eight times the rounds are more than the groups.
10: add r7, r3, #7
    lsr r7, r7, #3
    rsb r8, r3, r7, lsl #3
    mov r10, #(3f - 2f) / 8
    adr r12, 2f
    mla r8, r8, r10, r12
    add r8, r8, #1
    sub r6, r4, r3, lsl #3
    lsl r6, r6, #1
    str r7, [sp, #4]
    strd r6, r8, [sp, #44]
    str r3, [sp, #52]
    mov r3, r1
    add r5, r1, r4
    subs r11, r11, #2
    blo 5f
1:  ldmia r9, {r0, r2, r4, r6, r8, r10, r12, lr}
    ldrd r1, r7, [sp]
    ldr pc, [sp, #48]
    .balign 4
2:  PM_GEMM
    PM_GEMM
    PM_GEMM
    PM_GEMM
    PM_GEMM
    PM_GEMM
    PM_GEMM
    PM_GEMM
3:  subs r7, r7, #1
    bne 2b
    stmia r9!, {r0, r2, r4, r6, r8, r10, r12, lr}
    ldr r0, [sp, #44]
    add r3, r3, r0
    add r5, r5, r0
    subs r11, r11, #2
    bhs 1b
5:  cmn r11, #1
    bne 8f
    // One token more.
    ldmia r9, {r4, r6, r8, r10}
    ldr r0, [sp]
    ldr r2, [sp, #52]
    dls lr, r2
7:  vldrb.s8 q0, [r3], #16
    vldrb.s8 q1, [r0], #16
    vldrb.s8 q2, [r0], #16
    vmladava.s8 r4, q0, q1
    vldrb.s8 q3, [r0], #16
    vmladava.s8 r6, q0, q2
    vldrb.s8 q1, [r0], #16
    vmladava.s8 r8, q0, q3
    vmladava.s8 r10, q0, q1
    le lr, 7b
    stmia r9, {r4, r6, r8, r10}
8:  pop {r0, r3-r11, pc}
    .size palmtop_mve_gemm, . - palmtop_mve_gemm

// palmtop_mve_by_row(from, to, tokens): puts the four sums of each token into four rows of `tokens`.
    .section .text.palmtop_mve_by_row, "ax", %progbits
    .global palmtop_mve_by_row
    .type palmtop_mve_by_row, %function
    .thumb_func
    .balign 4
palmtop_mve_by_row:
    push {r4, lr}
    mov r4, #0
    vidup.u32 q1, r4, #1
    vmul.i32 q1, q1, r2
    dls lr, r2
1:  vldrw.u32 q0, [r0], #16
    vstrw.32 q0, [r1, q1, uxtw #2]
    add r1, r1, #4
    le lr, 1b
    pop {r4, pc}
    .size palmtop_mve_by_row, . - palmtop_mve_by_row

// palmtop_mve_dot(a, b, count): the sum of `count` products of signed bytes.
    .section .text.palmtop_mve_dot, "ax", %progbits
    .global palmtop_mve_dot
    .type palmtop_mve_dot, %function
    .thumb_func
    .balign 4
palmtop_mve_dot:
    push {r4, lr}
    mov r4, #0
    wlstp.8 lr, r2, 2f
1:  vldrb.s8 q0, [r0], #16
    vldrb.s8 q1, [r1], #16
    vmladava.s8 r4, q0, q1
    letp lr, 1b
2:  mov r0, r4
    pop {r4, pc}
    .size palmtop_mve_dot, . - palmtop_mve_dot

// palmtop_weighted_sums(weights, values, rows, pitch, sums): the sums of sixteen columns of `rows` rows
// of bytes, `pitch` bytes apart, each with its 15-bit weight.
    .section .text.palmtop_weighted_sums, "ax", %progbits
    .global palmtop_weighted_sums
    .type palmtop_weighted_sums, %function
    .thumb_func
    .balign 4
palmtop_weighted_sums:
    push {r4, lr}
    vpush {d8, d9}
    vmov.i32 q0, #0
    vmov.i32 q1, #0
    vmov.i32 q2, #0
    vmov.i32 q3, #0
    dls lr, r2
1:  ldrsh r4, [r0], #2
    vldrb.s32 q4, [r1]
    vmla.s32 q0, q4, r4
    vldrb.s32 q4, [r1, #4]
    vmla.s32 q1, q4, r4
    vldrb.s32 q4, [r1, #8]
    vmla.s32 q2, q4, r4
    vldrb.s32 q4, [r1, #12]
    vmla.s32 q3, q4, r4
    add r1, r1, r3
    le lr, 1b
    ldr r0, [sp, #24]
    vstrw.32 q0, [r0]
    vstrw.32 q1, [r0, #16]
    vstrw.32 q2, [r0, #32]
    vstrw.32 q3, [r0, #48]
    vpop {d8, d9}
    pop {r4, pc}
    .size palmtop_weighted_sums, . - palmtop_weighted_sums
