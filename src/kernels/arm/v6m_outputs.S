// Outputs of int8 layers on Armv6-M: f32(dot − number · number') · (factor · factor') + bias, each step
// rounded to nearest, ties to even. What is not usual ends the loop. Significands of 24 bits are
// multiplied by their upper 16 and lower 8 bits.

    .syntax unified
    .thumb

// The upper 32 of 48 bits of (\ah, \al) · (\bh, \bl), to \bh; the lowest 16 bits stand in r5, which is
// free, as is r0. \al and \bl are lost.
    .macro P6_PRODUCT ah, al, bh, bl
    movs r5, \al
    muls r5, \bl, r5
    muls \bl, \ah, \bl
    muls \al, \bh, \al
    muls \bh, \ah, \bh
    adds \al, \al, \bl
    lsrs \bl, r5, #8
    adds \al, \al, \bl
    lsrs \al, \al, #8
    adds \bh, \bh, \al
    .endm

// palmtop_v6m_put(run): see `Run`; steps are 4. Returns how many outputs are made.
    .section .text.palmtop_v6m_put, "ax", %progbits
    .global palmtop_v6m_put
    .type palmtop_v6m_put, %function
    .thumb_func
    .balign 4
palmtop_v6m_put:
    push {r4-r7, lr}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4-r7}
    ldmia r0!, {r1-r5}
    push {r1-r5}
    // [sp] dots, [sp+4] factors, [sp+8] numbers, [sp+12] biases, [sp+16] outputs.
    ldmia r0!, {r1-r5}
    mov r10, r1
    lsrs r0, r2, #8
    mov r8, r0
    uxtb r2, r2
    mov r9, r2
    // Numbers are normalized to 24 bits, not 32.
    movs r0, #4
    lsls r0, r0, #24
    subs r3, r3, r0
    mov r11, r3
    mov r12, r4
    lsls r5, r5, #2
    mov lr, r5
    movs r7, #0
    movs r6, #128
    lsls r6, r6, #24
    // r6 the top bit, r7 four times the outputs, lr at their end; r8 and r9 significand of the factor,
    // r10 number, r11 what exponents lack, r12 the least exponent.
    b 20f
18: lsrs r0, r7, #2
    add sp, #20
    pop {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r4-r7, pc}
    // It is a tie if all that follows is zeros too.
21: lsls r3, r0, #24
    bpl 22f
    lsls r3, r5, #24
    bne 22f
    b 18b

20: ldr r0, [sp, #4]
    ldr r0, [r0, r7]
    lsrs r1, r0, #23
    mov r2, r12
    subs r1, r1, r2
    cmp r1, #128
    bhs 18b
    // The product of the factors.
    uxtb r4, r0
    lsls r0, r0, #8
    orrs r0, r0, r6
    lsrs r0, r0, #16
    mov r2, r8
    mov r3, r9
    P6_PRODUCT r2, r3, r0, r4
    bmi 1f
    adds r0, r0, r0
    subs r1, r1, #1
1:  lsls r3, r0, #25
    beq 21b
22: adds r0, r0, #128
    lsrs r2, r0, #16
    lsls r0, r0, #16
    lsrs r0, r0, #24
    // The number: its sign stands above the exponent.
    ldr r3, [sp, #8]
    ldr r3, [r3, r7]
    mov r4, r10
    muls r3, r4, r3
    ldr r4, [sp]
    ldr r4, [r4, r7]
    subs r4, r4, r3
    bpl 1f
    rsbs r4, r4, #0
    adds r1, r1, #255
    adds r1, r1, #1
1:  lsrs r3, r4, #16
    beq 26f
    cmp r3, #255
    bhi 18b
23: adr r5, 40f
    ldrb r5, [r5, r3]
    lsls r4, r4, r5
    subs r1, r1, r5
    lsrs r3, r4, #8
    uxtb r4, r4
    P6_PRODUCT r2, r0, r3, r4
    bmi 1f
    adds r3, r3, r3
    subs r1, r1, #1
1:  lsls r1, r1, #23
    add r1, r11
    lsls r2, r3, #25
    beq 24f
25: lsrs r3, r3, #8
    adcs r1, r1, r3
    ldr r0, [sp, #12]
    cmp r0, #0
    beq 27f
    ldr r0, [r0, r7]
    // Which is greater, and by how much.
    lsls r2, r1, #1
    lsls r3, r0, #1
    lsrs r4, r3, #24
    cmp r2, r3
    blo 28f
    lsrs r2, r2, #24
    subs r2, r2, r4
    cmp r4, #0
    beq 29f
30: cmp r2, #8
    bhi 31f
    lsls r3, r0, #8
    orrs r3, r3, r6
    lsrs r3, r3, r2
32: lsls r2, r1, #8
    orrs r2, r2, r6
    eors r0, r0, r1
    bmi 33f
    adds r2, r2, r3
    bcs 34f
    // Ties go to even.
    lsrs r2, r2, #9
    movs r4, #0x7f
    adcs r3, r3, r4
    lsrs r3, r3, #8
    adds r1, r1, r3
27: ldr r2, [sp, #16]
    str r1, [r2, r7]
    adds r7, r7, #4
    cmp r7, lr
    beq 19f
    b 20b

    // Less than eight bits; zero ends here.
26: cmp r4, #0
    beq 19f
    lsls r4, r4, #8
    subs r1, r1, #8
    lsrs r3, r4, #16
    beq 26b
    b 23b
    // A tie, or a factor that became a power of two, ends here.
24: cmp r3, #0
    beq 19f
    lsls r2, r3, #24
    bpl 25b
    lsls r2, r5, #24
    bne 25b
19: b 18b
    // A bias of zero, or a subnormal one.
29: cmp r3, #0
    beq 27b
    b 18b
    // The greater one is the bias.
28: cmp r4, #254
    bhs 19b
    lsrs r2, r2, #24
    subs r2, r4, r2
    movs r3, r0
    movs r0, r1
    movs r1, r3
    b 30b
    // A bit more.
34: lsrs r1, r1, #23
    adds r1, r1, #1
    lsls r1, r1, #23
    movs r4, #0xff
    lsrs r3, r2, #10
    adcs r2, r2, r4
    lsrs r2, r2, #9
    adds r1, r1, r2
    b 27b
    // Of opposite signs.
33: subs r2, r2, r3
    bpl 35f
    mvns r2, r2
    lsrs r2, r2, #9
    movs r4, #0x7f
    adcs r3, r3, r4
    lsrs r3, r3, #8
    subs r1, r1, r3
    b 27b
    // What is shifted out leaves its trace in the last bit, or matters not at all.
31: cmp r2, #25
    bhi 27b
    lsls r4, r0, #8
    orrs r4, r4, r6
    movs r3, r4
    lsrs r3, r3, r2
    movs r5, r3
    lsls r5, r5, r2
    cmp r5, r4
    beq 32b
    movs r4, #1
    orrs r3, r3, r4
    b 32b
    // Bits less.
35: beq 38f
    lsls r3, r1, #1
    lsrs r3, r3, #24
36: subs r3, r3, #1
    adds r2, r2, r2
    bpl 36b
    cmp r3, #0
    ble 19b
    ands r1, r1, r6
    subs r3, r3, #1
    lsls r3, r3, #23
    adds r1, r1, r3
    lsrs r4, r2, #8
    lsls r3, r2, #24
    lsrs r2, r2, #9
    sbcs r3, r3, r6
    adcs r1, r1, r4
    b 27b
38: movs r1, #0
    b 27b
    // By how much a number that begins with this byte is to be shifted.
    .balign 4
40: .byte 0, 7, 6, 6, 5, 5, 5, 5
    .fill 8, 1, 4
    .fill 16, 1, 3
    .fill 32, 1, 2
    .fill 64, 1, 1
    .fill 128, 1, 0
    .size palmtop_v6m_put, . - palmtop_v6m_put
