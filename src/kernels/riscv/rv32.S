// Products of int8 matrices on 32-bit RISC-V with multiplication: LB, MUL, ADD.

    .option push
    .option arch, +m

// palmtop_rv32_gemv(w, x, sums, cols, blocks): `blocks` times eight rows, column after column; two
// blocks at a time, so that an activation is loaded for sixteen rows.
    .section .text.palmtop_rv32_gemv, "ax", @progbits
    .global palmtop_rv32_gemv
    .type palmtop_rv32_gemv, @function
    .balign 4
palmtop_rv32_gemv:
    addi sp, sp, -48
    sw s0, 0(sp)
    sw s1, 4(sp)
    sw s2, 8(sp)
    sw s3, 12(sp)
    sw s4, 16(sp)
    sw s5, 20(sp)
    sw s6, 24(sp)
    sw s7, 28(sp)
    sw s8, 32(sp)
    sw s9, 36(sp)
    sw s10, 40(sp)
    add a5, a1, a3
    mv s10, a1
    // s9 weights of the second block.
1:  addi a4, a4, -2
    bltz a4, 3f
    slli s9, a3, 3
    add s9, s9, a0
    mv a1, s10
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0, s1, s2, s3, s4, s5, s6, s7, s8
    li \sum, 0
    .endr
2:
    .set column, 0
    .rept 8
    lb a6, column(a1)
    .set row, 0
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0
    lb a7, (8 * column + row)(a0)
    mul a7, a7, a6
    add \sum, \sum, a7
    .set row, row + 1
    .endr
    .set row, 0
    .irp sum, s1, s2, s3, s4, s5, s6, s7, s8
    lb a7, (8 * column + row)(s9)
    mul a7, a7, a6
    add \sum, \sum, a7
    .set row, row + 1
    .endr
    .set column, column + 1
    .endr
    addi a1, a1, 8
    addi a0, a0, 64
    addi s9, s9, 64
    bne a1, a5, 2b
    mv a0, s9
    .set row, 0
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0, s1, s2, s3, s4, s5, s6, s7, s8
    sw \sum, (4 * row)(a2)
    .set row, row + 1
    .endr
    addi a2, a2, 64
    j 1b
    // One more.
3:  addi a4, a4, 2
    beqz a4, 5f
    mv a1, s10
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0
    li \sum, 0
    .endr
4:
    .set column, 0
    .rept 8
    lb a6, column(a1)
    .set row, 0
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0
    lb a7, (8 * column + row)(a0)
    mul a7, a7, a6
    add \sum, \sum, a7
    .set row, row + 1
    .endr
    .set column, column + 1
    .endr
    addi a1, a1, 8
    addi a0, a0, 64
    bne a1, a5, 4b
    .set row, 0
    .irp sum, t0, t1, t2, t3, t4, t5, t6, s0
    sw \sum, (4 * row)(a2)
    .set row, row + 1
    .endr
5:  lw s0, 0(sp)
    lw s1, 4(sp)
    lw s2, 8(sp)
    lw s3, 12(sp)
    lw s4, 16(sp)
    lw s5, 20(sp)
    lw s6, 24(sp)
    lw s7, 28(sp)
    lw s8, 32(sp)
    lw s9, 36(sp)
    lw s10, 40(sp)
    addi sp, sp, 48
    ret
    .size palmtop_rv32_gemv, . - palmtop_rv32_gemv

// palmtop_rv32_rows_gemv(w, x, sums, stride): four rows of `stride` bytes, in order.
    .section .text.palmtop_rv32_rows_gemv, "ax", @progbits
    .global palmtop_rv32_rows_gemv
    .type palmtop_rv32_rows_gemv, @function
    .balign 4
palmtop_rv32_rows_gemv:
    add a5, a1, a3
    add t4, a0, a3
    add t5, t4, a3
    add t6, t5, a3
    li t0, 0
    li t1, 0
    li t2, 0
    li t3, 0
1:
    .set column, 0
    .rept 8
    lb a6, column(a1)
    lb a3, column(a0)
    lb a4, column(t4)
    mul a3, a3, a6
    lb a7, column(t5)
    mul a4, a4, a6
    add t0, t0, a3
    lb a3, column(t6)
    mul a7, a7, a6
    add t1, t1, a4
    mul a3, a3, a6
    add t2, t2, a7
    add t3, t3, a3
    .set column, column + 1
    .endr
    addi a1, a1, 8
    addi a0, a0, 8
    addi t4, t4, 8
    addi t5, t5, 8
    addi t6, t6, 8
    bne a1, a5, 1b
    sw t0, 0(a2)
    sw t1, 4(a2)
    sw t2, 8(a2)
    sw t3, 12(a2)
    ret
    .size palmtop_rv32_rows_gemv, . - palmtop_rv32_rows_gemv

// palmtop_rv32_near(w, near, cols, row_step, col_step): copies four rows of `cols` columns as bytes,
// column after column.
    .section .text.palmtop_rv32_near, "ax", @progbits
    .global palmtop_rv32_near
    .type palmtop_rv32_near, @function
    .balign 4
palmtop_rv32_near:
    li t0, 1
    bne a3, t0, 2f
    // Blocks of eight rows: four of them are a word, eight bytes from column to column.
3:  lw t3, 0(a0)
    lw t4, 8(a0)
    lw t5, 16(a0)
    lw t6, 24(a0)
    sw t3, 0(a1)
    sw t4, 4(a1)
    sw t5, 8(a1)
    sw t6, 12(a1)
    addi a0, a0, 32
    addi a1, a1, 16
    addi a2, a2, -4
    bnez a2, 3b
    ret
2:  add t0, a0, a3
    add t1, t0, a3
    add t2, t1, a3
1:  lb t3, 0(a0)
    lb t4, 0(t0)
    lb t5, 0(t1)
    lb t6, 0(t2)
    sb t3, 0(a1)
    sb t4, 1(a1)
    sb t5, 2(a1)
    sb t6, 3(a1)
    add a0, a0, a4
    add t0, t0, a4
    add t1, t1, a4
    add t2, t2, a4
    addi a1, a1, 4
    addi a2, a2, -1
    bnez a2, 1b
    ret
    .size palmtop_rv32_near, . - palmtop_rv32_near

// One token by four rows: the sums' registers.
    .macro PV_TOKEN pointer, s0, s1, s2, s3
    lb a6, column(\pointer)
    mul a7, a6, t4
    add \s0, \s0, a7
    mul a7, a6, t5
    add \s1, \s1, a7
    mul a7, a6, t6
    add \s2, \s2, a7
    mul a7, a6, ra
    add \s3, \s3, a7
    .endm

// Four weights of a column.
    .macro PV_WEIGHTS
    lb t4, (4 * column)(a0)
    lb t5, (4 * column + 1)(a0)
    lb t6, (4 * column + 2)(a0)
    lb ra, (4 * column + 3)(a0)
    .endm

// A row's sums of four tokens, at a6: LW or SW.
    .macro PV_ROW what, s0, s1, s2, s3
    \what \s0, 0(a6)
    \what \s1, 4(a6)
    \what \s2, 8(a6)
    \what \s3, 12(a6)
    .endm
    .macro PV_SUMS what
    lw a6, 56(sp)
    lw a7, 72(sp)
    PV_ROW \what, s0, s4, s8, a2
    add a6, a6, a7
    PV_ROW \what, s1, s5, s9, a3
    add a6, a6, a7
    PV_ROW \what, s2, s6, s10, a4
    add a6, a6, a7
    PV_ROW \what, s3, s7, s11, a5
    .endm

// palmtop_rv32_gemm(near, x, sums, cols, pitch, tokens): adds to the sums of four rows, `tokens` of
// each, the products of near weights with rows of activations, `pitch` bytes from one to the next.
    .section .text.palmtop_rv32_gemm, "ax", @progbits
    .global palmtop_rv32_gemm
    .type palmtop_rv32_gemm, @function
    .balign 4
palmtop_rv32_gemm:
    addi sp, sp, -80
    sw ra, 0(sp)
    sw s0, 4(sp)
    sw s1, 8(sp)
    sw s2, 12(sp)
    sw s3, 16(sp)
    sw s4, 20(sp)
    sw s5, 24(sp)
    sw s6, 28(sp)
    sw s7, 32(sp)
    sw s8, 36(sp)
    sw s9, 40(sp)
    sw s10, 44(sp)
    sw s11, 48(sp)
    // 52 near, 56 sums, 60 columns, 64 pitch, 68 tokens left, 72 bytes from row to row of sums.
    sw a0, 52(sp)
    sw a2, 56(sp)
    sw a3, 60(sp)
    sw a4, 64(sp)
    slli t0, a5, 2
    sw t0, 72(sp)
    mv t0, a1
    addi a5, a5, -4
    sw a5, 68(sp)
    bltz a5, 4f
1:  lw a4, 64(sp)
    lw a3, 60(sp)
    lw a0, 52(sp)
    add t1, t0, a4
    add t2, t1, a4
    add t3, t2, a4
    add a1, t0, a3
    PV_SUMS lw
2:
    .set column, 0
    .rept 16
    PV_WEIGHTS
    PV_TOKEN t0, s0, s1, s2, s3
    PV_TOKEN t1, s4, s5, s6, s7
    PV_TOKEN t2, s8, s9, s10, s11
    PV_TOKEN t3, a2, a3, a4, a5
    .set column, column + 1
    .endr
    addi a0, a0, 64
    addi t0, t0, 16
    addi t1, t1, 16
    addi t2, t2, 16
    addi t3, t3, 16
    bne t0, a1, 2b
    PV_SUMS sw
    lw a6, 56(sp)
    addi a6, a6, 16
    sw a6, 56(sp)
    // The next four rows of activations.
    lw a4, 64(sp)
    lw a3, 60(sp)
    add t0, t3, a4
    sub t0, t0, a3
    lw a5, 68(sp)
    addi a5, a5, -4
    sw a5, 68(sp)
    bgez a5, 1b
4:  lw a5, 68(sp)
    addi a5, a5, 4
    beqz a5, 7f
    lw a4, 64(sp)
    lw a3, 60(sp)
    lw a2, 56(sp)
    lw t3, 72(sp)
5:  lw a0, 52(sp)
    add a1, t0, a3
    li s0, 0
    li s1, 0
    li s2, 0
    li s3, 0
6:
    .set column, 0
    .rept 8
    PV_WEIGHTS
    PV_TOKEN t0, s0, s1, s2, s3
    .set column, column + 1
    .endr
    addi a0, a0, 32
    addi t0, t0, 8
    bne t0, a1, 6b
    mv a6, a2
    .irp sum, s0, s1, s2, s3
    lw t4, 0(a6)
    add t4, t4, \sum
    sw t4, 0(a6)
    add a6, a6, t3
    .endr
    addi a2, a2, 4
    add t0, t0, a4
    sub t0, t0, a3
    addi a5, a5, -1
    bnez a5, 5b
7:  lw ra, 0(sp)
    lw s0, 4(sp)
    lw s1, 8(sp)
    lw s2, 12(sp)
    lw s3, 16(sp)
    lw s4, 20(sp)
    lw s5, 24(sp)
    lw s6, 28(sp)
    lw s7, 32(sp)
    lw s8, 36(sp)
    lw s9, 40(sp)
    lw s10, 44(sp)
    lw s11, 48(sp)
    addi sp, sp, 80
    ret
    .size palmtop_rv32_gemm, . - palmtop_rv32_gemm

    .option pop
