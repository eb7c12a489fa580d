// Products of int8 matrices on Armv6-M (Cortex-M0, M0+): activations are unsigned, 128 more than
// their values, since LDRB has an offset and LDRSB has none. Sums may stand in high registers: ADD
// takes them.

    .syntax unified
    .thumb

// palmtop_v6m_gemv(w, x, sums, cols, blocks, start): `blocks` times four rows, column after column, of
// weights that are 128 more than they are: that too is in the sums, which begin at `start`.
    .section .text.palmtop_v6m_gemv, "ax", %progbits
    .global palmtop_v6m_gemv
    .type palmtop_v6m_gemv, %function
    .thumb_func
    .balign 4
palmtop_v6m_gemv:
    push {r4-r7, lr}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4-r7}
    // r8 x, r9 sums, r10 end of x, r11 where rows begin; [sp+36] blocks, [sp+40] start.
    mov r9, r2
    adds r2, r1, r3
    mov r10, r2
    // 32 columns at a time; an odd 16 of them are the first.
    adr r2, 2f
    lsls r3, r3, #27
    bpl 1f
    subs r1, r1, #16
    adr r2, 5f
1:  mov r11, r2
    mov r8, r1
6:  mov r1, r8
    ldr r4, [sp, #40]
    movs r5, r4
    movs r6, r4
    movs r7, r4
    mov pc, r11
    .balign 4
2:
    .set column, 0
    .rept 32
    .if column == 16
    adds r0, r0, #32
    .balign 4
5:
    .elseif column % 8 == 0 && column != 0
    adds r0, r0, #32
    .endif
    ldrb r2, [r1, #column]
    .set row, 0
    .irp sum, r4, r5, r6, r7
    ldrb r3, [r0, #(column % 8) * 4 + row]
    muls r3, r2, r3
    adds \sum, \sum, r3
    .set row, row + 1
    .endr
    .set column, column + 1
    .endr
    adds r0, r0, #32
    adds r1, r1, #32
    cmp r1, r10
    beq 3f
    b 2b
3:
    mov r2, r9
    stmia r2!, {r4-r7}
    mov r9, r2
    ldr r4, [sp, #36]
    subs r4, r4, #1
    str r4, [sp, #36]
    beq 4f
    b 6b
4:
    pop {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r4-r7, pc}
    .size palmtop_v6m_gemv, . - palmtop_v6m_gemv

// palmtop_v6m_sum(x, cols): the sum of unsigned bytes.
    .section .text.palmtop_v6m_sum, "ax", %progbits
    .global palmtop_v6m_sum
    .type palmtop_v6m_sum, %function
    .thumb_func
    .balign 4
palmtop_v6m_sum:
    push {r4, lr}
    movs r3, #0
1:
    .set column, 0
    .rept 16
    ldrb r2, [r0, #column]
    adds r3, r3, r2
    .set column, column + 1
    .endr
    adds r0, r0, #16
    subs r1, r1, #16
    bne 1b
    mov r0, r3
    pop {r4, pc}
    .size palmtop_v6m_sum, . - palmtop_v6m_sum

// palmtop_v6m_rows_gemv(w, x, sums, stride): four rows of `stride` bytes, in order. One offset serves
// activations and rows.
    .section .text.palmtop_v6m_rows_gemv, "ax", %progbits
    .global palmtop_v6m_rows_gemv
    .type palmtop_v6m_rows_gemv, %function
    .thumb_func
    .balign 4
palmtop_v6m_rows_gemv:
    push {r2, r4-r7, lr}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4-r7}
    mov r12, r3
    adds r2, r0, r3
    adds r4, r2, r3
    adds r5, r4, r3
    movs r3, #0
    mov r8, r3
    mov r9, r3
    mov r10, r3
    mov r11, r3
1:  .rept 8
    ldrb r6, [r1, r3]
    ldrsb r7, [r0, r3]
    muls r7, r6, r7
    add r8, r7
    ldrsb r7, [r2, r3]
    muls r7, r6, r7
    add r9, r7
    ldrsb r7, [r4, r3]
    muls r7, r6, r7
    add r10, r7
    ldrsb r7, [r5, r3]
    muls r7, r6, r7
    add r11, r7
    adds r3, r3, #1
    .endr
    cmp r3, r12
    bne 1b
    ldr r2, [sp, #16]
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    stmia r2!, {r4-r7}
    pop {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r2, r4-r7, pc}
    .size palmtop_v6m_rows_gemv, . - palmtop_v6m_rows_gemv

// palmtop_v6m_near(w, near, cols, row_step, col_step, flip): copies four rows of `cols` columns as
// words, column after column, each with its sign and exclusive-or `flip`.
    .section .text.palmtop_v6m_near, "ax", %progbits
    .global palmtop_v6m_near
    .type palmtop_v6m_near, %function
    .thumb_func
    .balign 4
palmtop_v6m_near:
    push {r4-r7, lr}
    mov r4, r8
    push {r4}
    // [sp+24] col_step, [sp+28] flip.
    ldr r4, [sp, #24]
    mov r8, r4
    ldr r7, [sp, #28]
    mov r12, r2
    lsls r4, r3, #1
    adds r5, r4, r3
1:  movs r6, #0
    ldrsb r2, [r0, r6]
    eors r2, r2, r7
    ldrsb r6, [r0, r3]
    eors r6, r6, r7
    stmia r1!, {r2, r6}
    ldrsb r2, [r0, r4]
    eors r2, r2, r7
    ldrsb r6, [r0, r5]
    eors r6, r6, r7
    stmia r1!, {r2, r6}
    add r0, r8
    mov r2, r12
    subs r2, r2, #1
    mov r12, r2
    bne 1b
    pop {r4}
    mov r8, r4
    pop {r4-r7, pc}
    .size palmtop_v6m_near, . - palmtop_v6m_near

// palmtop_v6m_gemm(near, x, sums, cols, pitch, tokens): adds to the sums of four rows, `tokens` of
// each, the products of near weights with rows of activations, `pitch` bytes from one to the next.
    .section .text.palmtop_v6m_gemm, "ax", %progbits
    .global palmtop_v6m_gemm
    .type palmtop_v6m_gemm, %function
    .thumb_func
    .balign 4
palmtop_v6m_gemm:
    push {r4-r7, lr}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r0, r2, r4-r7}
    // [sp] near, [sp+4] sums, [sp+44] pitch, which becomes what leads to the next row, [sp+48] tokens
    // left, and in r7 bytes from row to row of sums.
    ldr r4, [sp, #44]
    subs r4, r4, r3
    str r4, [sp, #44]
    ldr r7, [sp, #48]
    lsls r7, r7, #2
    // r12 is the end of a row of near weights: 16 bytes a column.
    lsls r3, r3, #4
    adds r3, r3, r0
    mov r12, r3
1:  ldr r0, [sp]
    movs r2, #0
    mov r8, r2
    mov r9, r2
    mov r10, r2
    mov r11, r2
2:
    .set column, 0
    .rept 16
    ldrb r6, [r1, #column]
    ldmia r0!, {r2-r5}
    muls r2, r6, r2
    add r8, r2
    muls r3, r6, r3
    add r9, r3
    muls r4, r6, r4
    add r10, r4
    muls r5, r6, r5
    add r11, r5
    .set column, column + 1
    .endr
    adds r1, r1, #16
    cmp r0, r12
    beq 3f
    b 2b
3:
    ldr r2, [sp, #4]
    ldr r3, [r2]
    add r3, r8
    str r3, [r2]
    ldr r3, [r2, r7]
    add r3, r9
    str r3, [r2, r7]
    adds r4, r7, r7
    ldr r3, [r2, r4]
    add r3, r10
    str r3, [r2, r4]
    adds r4, r4, r7
    ldr r3, [r2, r4]
    add r3, r11
    str r3, [r2, r4]
    adds r2, r2, #4
    str r2, [sp, #4]
    ldr r3, [sp, #44]
    adds r1, r1, r3
    ldr r3, [sp, #48]
    subs r3, r3, #1
    str r3, [sp, #48]
    beq 4f
    b 1b
4:
    pop {r0, r2, r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r4-r7, pc}
    .size palmtop_v6m_gemm, . - palmtop_v6m_gemm
