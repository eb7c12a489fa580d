// Products of int8 matrices on Cortex-M3: bytes are loaded with their sign, MLA adds a product.

    .syntax unified
    .thumb

// One column of eight rows: r0 weights, r1 activations.
    .macro P7_COLUMN_8
    ldrsb r12, [r1], #1
    .irp sum, r4, r5, r6, r7, r8, r9, r10, r11
    ldrsb r2, [r0], #1
    mla \sum, r2, r12, \sum
    .endr
    .endm

// palmtop_v7m_gemv(w, x, sums, cols, blocks): `blocks` times eight rows, column after column.
    .section .text.palmtop_v7m_gemv, "ax", %progbits
    .global palmtop_v7m_gemv
    .type palmtop_v7m_gemv, %function
    .thumb_func
    .balign 4
palmtop_v7m_gemv:
    push {r1, r2, r4-r11, lr}
    // [sp] x, [sp+4] sums, [sp+44] blocks.
    add r3, r1, r3
1:  ldr r1, [sp]
    .irp sum, r4, r5, r6, r7, r8, r9, r10, r11
    mov \sum, #0
    .endr
2:  .rept 16
    P7_COLUMN_8
    .endr
    cmp r1, r3
    bne 2b
    ldr r2, [sp, #4]
    stmia r2!, {r4-r11}
    str r2, [sp, #4]
    ldr r4, [sp, #44]
    subs r4, r4, #1
    str r4, [sp, #44]
    bne 1b
    pop {r1, r2, r4-r11, pc}
    .size palmtop_v7m_gemv, . - palmtop_v7m_gemv

// palmtop_v7m_rows_gemv(w, x, sums, stride): four rows of `stride` bytes, in order.
    .section .text.palmtop_v7m_rows_gemv, "ax", %progbits
    .global palmtop_v7m_rows_gemv
    .type palmtop_v7m_rows_gemv, %function
    .thumb_func
    .balign 4
palmtop_v7m_rows_gemv:
    push {r2, r4-r11, lr}
    add r4, r1, r3
    add r2, r0, r3
    add r12, r2, r3
    add r3, r12, r3
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
1:  .rept 8
    ldrsb r5, [r1], #1
    ldrsb r6, [r0], #1
    mla r8, r5, r6, r8
    ldrsb r6, [r2], #1
    mla r9, r5, r6, r9
    ldrsb r6, [r12], #1
    mla r10, r5, r6, r10
    ldrsb r6, [r3], #1
    mla r11, r5, r6, r11
    .endr
    cmp r1, r4
    bne 1b
    pop {r2}
    stmia r2, {r8-r11}
    pop {r4-r11, pc}
    .size palmtop_v7m_rows_gemv, . - palmtop_v7m_rows_gemv

// palmtop_v7m_near(w, near, cols, row_step, col_step): copies four rows of `cols` columns as words,
// column after column.
    .section .text.palmtop_v7m_near, "ax", %progbits
    .global palmtop_v7m_near
    .type palmtop_v7m_near, %function
    .thumb_func
    .balign 4
palmtop_v7m_near:
    push {r4-r10, lr}
    ldr r8, [sp, #32]
    add r9, r0, r3
    add r10, r9, r3
    add r12, r10, r3
    mov r3, #0
1:  ldrsb r4, [r0, r3]
    ldrsb r5, [r9, r3]
    ldrsb r6, [r10, r3]
    ldrsb r7, [r12, r3]
    add r3, r3, r8
    stmia r1!, {r4-r7}
    subs r2, r2, #1
    bne 1b
    pop {r4-r10, pc}
    .size palmtop_v7m_near, . - palmtop_v7m_near

// palmtop_v7m_gemm(near, x, sums, cols, pitch, tokens): adds to the sums of four rows, `tokens` of
// each, the products of near weights with rows of activations, `pitch` bytes from one to the next.
    .section .text.palmtop_v7m_gemm, "ax", %progbits
    .global palmtop_v7m_gemm
    .type palmtop_v7m_gemm, %function
    .thumb_func
    .balign 4
palmtop_v7m_gemm:
    push {r0, r4-r11, lr}
    // [sp] near, [sp+40] pitch, which becomes what leads to the next row, [sp+44] tokens left.
    ldr r4, [sp, #40]
    ldr r12, [sp, #44]
    sub r4, r4, r3
    str r4, [sp, #40]
    // r2 sums, r3 end of near weights, r12 tokens of a row of sums.
    add r3, r0, r3, lsl #4
1:  add r0, r2, r12, lsl #3
    ldr r4, [r2]
    ldr r5, [r2, r12, lsl #2]
    ldr r6, [r0]
    ldr r7, [r0, r12, lsl #2]
    ldr r0, [sp]
2:  .rept 8
    ldrsb lr, [r1], #1
    ldmia r0!, {r8-r11}
    mla r4, r8, lr, r4
    mla r5, r9, lr, r5
    mla r6, r10, lr, r6
    mla r7, r11, lr, r7
    .endr
    cmp r0, r3
    bne 2b
    add r0, r2, r12, lsl #3
    str r5, [r2, r12, lsl #2]
    str r6, [r0]
    str r7, [r0, r12, lsl #2]
    str r4, [r2], #4
    ldr r8, [sp, #40]
    ldr r9, [sp, #44]
    add r1, r1, r8
    subs r9, r9, #1
    str r9, [sp, #44]
    bne 1b
    pop {r0, r4-r11, pc}
    .size palmtop_v7m_gemm, . - palmtop_v7m_gemm
