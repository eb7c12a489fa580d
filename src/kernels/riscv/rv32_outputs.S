// Outputs of int8 layers on 32-bit RISC-V without float instructions: f32(dot − number · number') ·
// (factor · factor') + bias, each step rounded to nearest, ties to even. What is not usual ends the
// loop.

    .option push
    .option arch, +m

// \big + \small, which is not greater and not 0, to a0, then on at 29: a0 has the difference of the
// exponents.
    .macro PV_ADD big, small
    bltu s7, a0, 5f
    slli t6, \small, 8
    or t6, t6, s1
    srl t6, t6, a0
3:  slli t3, \big, 8
    xor a0, \big, \small
    or t3, t3, s1
    bltz a0, 4f
    add t3, t3, t6
    bltu t3, t6, 1f
    srli t3, t3, 8
    andi t3, t3, 1
    add t6, t6, t3
    addi t6, t6, 0x7f
    srli t6, t6, 8
    add a0, \big, t6
    sw a0, 0(a4)
    add a4, a4, s9
    bne a2, t2, 20b
    j 32f
    // A bit more.
1:  srli t6, t3, 9
    andi t6, t6, 1
    add t3, t3, t6
    addi t3, t3, 0xff
    srli t3, t3, 9
    srli a0, \big, 23
    addi a0, a0, 1
    slli a0, a0, 23
    add a0, a0, t3
    j 29f
    // Of opposite signs.
4:  sub t3, t3, t6
    bgez t3, 2f
    srli t3, t3, 8
    andi t3, t3, 1
    sub t6, t6, t3
    addi t6, t6, 0x80
    srli t6, t6, 8
    sub a0, \big, t6
    sw a0, 0(a4)
    add a4, a4, s9
    bne a2, t2, 20b
    j 32f
    // Bits less.
2:  mv a0, t3
    beqz t3, 29f
    srli a0, \big, 23
    andi a0, a0, 0xff
1:  slli t3, t3, 1
    addi a0, a0, -1
    bgez t3, 1b
    blez a0, 28f
    srli t6, t3, 8
    andi \small, t6, 1
    andi t3, t3, 0xff
    add t3, t3, \small
    addi t3, t3, 0x7f
    srli t3, t3, 8
    add t6, t6, t3
    addi a0, a0, -1
    slli a0, a0, 23
    add a0, a0, t6
    srli \big, \big, 31
    slli \big, \big, 31
    or a0, a0, \big
    j 29f
    // What is shifted out leaves its trace in the last bit, or matters not at all.
5:  li t3, 25
    bltu t3, a0, 6f
    slli t3, \small, 8
    or t3, t3, s1
    srl t6, t3, a0
    sll a0, t6, a0
    xor a0, a0, t3
    snez a0, a0
    or t6, t6, a0
    j 3b
6:  mv a0, \big
    j 29f
    .endm

// palmtop_rv32_put(run): see `Run`. Returns how many outputs are made.
    .section .text.palmtop_rv32_put, "ax", @progbits
    .global palmtop_rv32_put
    .type palmtop_rv32_put, @function
    .balign 4
palmtop_rv32_put:
    addi sp, sp, -48
    sw s0, 0(sp)
    sw s1, 4(sp)
    sw s2, 8(sp)
    sw s3, 12(sp)
    sw s6, 24(sp)
    sw s7, 28(sp)
    sw s8, 32(sp)
    sw s9, 36(sp)
    sw s10, 40(sp)
    sw s11, 44(sp)
    lw a1, 0(a0)
    lw a2, 4(a0)
    lw a3, 8(a0)
    lw a5, 12(a0)
    lw a4, 16(a0)
    lw a6, 20(a0)
    lw a7, 24(a0)
    slli a7, a7, 8
    lw t0, 28(a0)
    lw t1, 32(a0)
    lw t2, 36(a0)
    lw s8, 40(a0)
    lw s9, 44(a0)
    mv s11, a2
    slli t2, t2, 2
    add t2, t2, a2
    lui s0, 0x800
    lui s1, 0x80000
    li s2, 128
    lla s3, .Lpalmtop_rv32_shifts
    lui s6, 0x1000
    li s7, 8
    lui s10, 0xfe000
    // a1 dots, a2 factors, a3 numbers, a4 outputs, a5 biases, a6 number, a7 significand of the factor,
    // t0 what exponents lack, t1 the least exponent, t2 end of factors, s3 the table.
20: lw t3, 0(a2)
    lw t5, 0(a3)
    addi a2, a2, 4
    srli t4, t3, 23
    sub t4, t4, t1
    bgeu t4, s2, 28f
    // The product of the factors; the lower half counts only where it may be a tie.
    slli t3, t3, 8
    or t3, t3, s1
    mul a0, t5, a6
    mulhu t6, t3, a7
    lw t5, 0(a1)
    addi a3, a3, 4
    addi a1, a1, 4
    sub a0, t5, a0
    bltz t6, 1f
    slli t6, t6, 1
    addi t4, t4, -1
1:  andi t5, t6, 0x7f
    beqz t5, 33f
34: srli t6, t6, 7
    addi t6, t6, 1
    srli t6, t6, 1
    // The number: its sign stands above the exponent.
    bgez a0, 1f
    neg a0, a0
    addi t4, t4, 256
1:  bgeu a0, s6, 28f
    srli t3, a0, 16
    beqz t3, 26f
21: add t3, t3, s3
    lbu t3, 0(t3)
    sll a0, a0, t3
    sub t4, t4, t3
    mul t5, a0, t6
    mulhu t6, a0, t6
    slli t4, t4, 23
    add t4, t4, t0
    bgeu t6, s0, 1f
    slli t6, t6, 1
    srli t3, t5, 31
    or t6, t6, t3
    slli t5, t5, 1
    sub t4, t4, s0
    // Ties go to even.
1:  andi t3, t6, 1
    add t5, t5, t3
    sltu t5, s1, t5
    add t6, t6, t5
    add t4, t4, t6
    beqz a5, 27f
    lw t5, 0(a5)
    add a5, a5, s8
    slli t3, t4, 1
    slli t6, t5, 1
    bltu t3, t6, 30f
    srli t6, t6, 24
    srli t3, t3, 24
    beqz t6, 31f
    sub a0, t3, t6
    PV_ADD t4, t5
    // The greater one is the bias.
30: bgeu t6, s10, 28f
    srli t6, t6, 24
    srli t3, t3, 24
    sub a0, t6, t3
    PV_ADD t5, t4
    // A bias of zero, or a subnormal one.
31: slli t5, t5, 1
    bnez t5, 28f
27: mv a0, t4
29: sw a0, 0(a4)
    add a4, a4, s9
    bne a2, t2, 20b
    j 32f
33: andi t5, t6, 0x80
    beqz t5, 34b
    mul t5, t3, a7
    bnez t5, 34b
    j 28f
    // Less than eight bits; zero ends here.
26: beqz a0, 28f
    slli a0, a0, 8
    addi t4, t4, -8
    srli t3, a0, 16
    beqz t3, 26b
    j 21b
28: addi a2, a2, -4
32: sub a0, a2, s11
    srli a0, a0, 2
    lw s0, 0(sp)
    lw s1, 4(sp)
    lw s2, 8(sp)
    lw s3, 12(sp)
    lw s6, 24(sp)
    lw s7, 28(sp)
    lw s8, 32(sp)
    lw s9, 36(sp)
    lw s10, 40(sp)
    lw s11, 44(sp)
    addi sp, sp, 48
    ret
    // By how much a number of 24 bits that begins with this byte is to be shifted.
.Lpalmtop_rv32_shifts:
    .byte 0, 15, 14, 14, 13, 13, 13, 13
    .fill 8, 1, 12
    .fill 16, 1, 11
    .fill 32, 1, 10
    .fill 64, 1, 9
    .fill 128, 1, 8
    .size palmtop_rv32_put, . - palmtop_rv32_put

    .option pop
