// Outputs of int8 layers on Cortex-M3, where floats are emulated: f32(dot − number · number') · (factor
// · factor') + bias, each step rounded to nearest, ties to even. What is not usual ends the loop.

    .syntax unified
    .thumb

// Rounds away the eight bits at the end of a normalized significand, ties to even, and adds what
// remains to sign and exponent: \to = \upper + \from >> \shift, rounded by the significand \s; \t, \u
// are free.
    .macro P7_ROUND to, upper, from, s, shift, t, u
    lsl \t, \s, #(32 - \shift)
    lsrs \u, \s, #(\shift + 1)
    sbcs \t, \t, r10
    adc \to, \upper, \from, lsr #\shift
    .endm

// \big + \small, which is not greater and not 0, to r0, then on at 19: r0 has the difference of the
// exponents.
    .macro P7_ADD big, small
    orr lr, r10, \small, lsl #8
    cmp r0, #8
    bhi 5f
    teq \big, \small
    lsr lr, lr, r0
    bmi 4f
3:  orr r0, r10, \big, lsl #8
    adds r0, r0, lr
    bcs 1f
    P7_ROUND r0, \big, lr, r0, 8, \small, r0
    b 19f
1:  bfc \big, #0, #23
    add \big, \big, #0x800000
    P7_ROUND r0, \big, r0, r0, 9, \small, lr
    b 19f
    // Of opposite signs.
4:  orr r0, r10, \big, lsl #8
    subs r0, r0, lr
    bpl 2f
    bfc \big, #0, #23
1:  bic lr, r0, r10
    P7_ROUND r0, \big, lr, r0, 8, \small, r0
    b 19f
2:  beq 19f
    bfc \big, #0, #23
    clz lr, r0
    lsl r0, r0, lr
    ubfx \small, \big, #23, #8
    cmp \small, lr
    bls 18f
    sub \big, \big, lr, lsl #23
    b 1b
    // What is shifted out leaves its trace in the last bit, or matters not at all.
5:  cmp r0, #25
    bhi 6f
    eor \small, \small, \big
    push {r1}
    lsr r1, lr, r0
    lsl r0, r1, r0
    cmp r0, lr
    it ne
    orrne r1, r1, #1
    mov lr, r1
    pop {r1}
    cmp \small, #0
    bmi 4b
    b 3b
6:  mov r0, \big
    b 19f
    .endm

// \name(run): see `Run`. Returns how many outputs are made.
    .macro P7_OUTPUTS name, strided
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 4
\name:
    push {r0, r4-r11, lr}
    sub sp, sp, #12
    // [sp] end of factors, [sp+4] step of biases, [sp+8] of outputs, [sp+12] run.
    ldr r9, [r0, #36]
    ldrd r11, r12, [r0, #40]
    ldr r2, [r0, #4]
    add r9, r2, r9, lsl #2
    strd r9, r11, [sp]
    str r12, [sp, #8]
    ldr r1, [r0]
    ldrd r3, r5, [r0, #8]
    ldrd r4, r6, [r0, #16]
    ldrd r7, r8, [r0, #24]
    ldr r9, [r0, #32]
    mov r10, #0x80000000
    // r1 dots, r2 factors, r3 numbers, r4 outputs, r5 biases, r6 number, r7 significand of the factor,
    // r8 what exponents lack, r9 the least exponent.
10: ldr r11, [r2], #4
    rsb r12, r9, r11, lsr #23
    cmp r12, #128
    bhs 18f
    // The product of the factors: 24 bits, and 24 to round away.
    orr r11, r10, r11, lsl #8
    umull r0, lr, r11, r7
    tst lr, #0x800000
    bne 11f
    adds r0, r0, r0
    adc lr, lr, lr
    sub r12, r12, #1
    // It may be a tie.
11: lsls r0, r0, #1
    beq 18f
    adc lr, lr, #0
    // The number: its sign stands above the exponent.
    ldr r11, [r1], #4
    ldr r0, [r3], #4
    mls r11, r0, r6, r11
    eor r0, r11, r11, asr #31
    sub r0, r0, r11, asr #31
    and r11, r11, r10
    add r12, r12, r11, lsr #23
    clz r11, r0
    lsl r0, r0, r11
    cmp r11, #8
    blo 18f
    sub r12, r12, r11
    umull r11, lr, r0, lr
    add r12, r8, r12, lsl #23
    tst lr, #0x800000
    beq 12f
    // A number that is zero, or a factor that became a power of two, ends here.
    lsls r0, r11, #1
    beq 18f
    adc r12, r12, lr
13: cmp r5, #0
    beq 17f
    .if \strided
    ldr r0, [sp, #4]
    ldr r11, [r5]
    add r5, r5, r0
    .else
    ldr r11, [r5], #4
    .endif
    lsl r0, r12, #1
    lsl lr, r11, #1
    cmp r0, lr
    blo 15f
    lsrs lr, lr, #24
    beq 16f
    rsb r0, lr, r0, lsr #24
    P7_ADD r12, r11
    // The greater one is the bias.
15: cmp lr, #0xfe000000
    bhs 18f
    ubfx r0, r12, #23, #8
    rsb r0, r0, lr, lsr #24
    P7_ADD r11, r12
    // A bias of zero, or a subnormal one.
16: lsls r11, r11, #1
    bne 18f
17: mov r0, r12
19:
    .if \strided
    ldr r12, [sp, #8]
    str r0, [r4]
    add r4, r4, r12
    .else
    str r0, [r4], #4
    .endif
    ldr r0, [sp]
    cmp r2, r0
    bne 10b
    b 20f
12: adds r11, r11, r11
    adc lr, lr, lr
    sub r12, r12, #0x800000
    lsls r0, r11, #1
    beq 18f
    adc r12, r12, lr
    b 13b
18: sub r2, r2, #4
20: ldr r0, [sp, #12]
    ldr r0, [r0, #4]
    sub r0, r2, r0
    lsr r0, r0, #2
    add sp, sp, #16
    pop {r4-r11, pc}
    .size \name, . - \name
    .endm

    P7_OUTPUTS palmtop_v7m_put, 0
    P7_OUTPUTS palmtop_v7m_put_apart, 1
