// Products of int8 matrices on Arm cores with the DSP extension: SMLAD multiplies two pairs of
// 16-bit lanes and adds both products.
//
// Lanes: a lane of weights is w0 + 256*w1 as it lies in the file. With b = x1 and c = 256*x0 - x1
// (`lanes::prepare`), SMLAD(raw, b) + SMLAD(SXTB16(raw), c) is 256 times the sum of four products,
// without parting the bytes. An accumulator holds 512 columns; then it is shifted down.

    .syntax unified
    .thumb

// Four rows by sixteen columns of lanes: r0 weights, r1 activations.
    .macro PT_LANES_4
    ldmia r0!, {r4-r7}
    ldrd r12, lr, [r1], #8
    sxtb16 r2, r4
    smlad r8, r4, r12, r8
    smlad r8, r2, lr, r8
    sxtb16 r2, r5
    smlad r9, r5, r12, r9
    smlad r9, r2, lr, r9
    sxtb16 r2, r6
    smlad r10, r6, r12, r10
    smlad r10, r2, lr, r10
    sxtb16 r2, r7
    smlad r11, r7, r12, r11
    smlad r11, r2, lr, r11
    .endm

// palmtop_dsp_lanes_gemv(w, x, sums, groups, blocks): `blocks` times four rows of `groups` times 16
// columns against one row of lanes.
    .section .text.palmtop_dsp_lanes_gemv, "ax", %progbits
    .global palmtop_dsp_lanes_gemv
    .type palmtop_dsp_lanes_gemv, %function
    .thumb_func
    .balign 4
palmtop_dsp_lanes_gemv:
    push {r0-r3, r4-r11, lr}
    // [sp] groups left, [sp+4] x, [sp+8] sums, [sp+12] groups, [sp+52] blocks.
1:  ldrd r1, r3, [sp, #4]
    ldr r2, [sp, #12]
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
    stmia r3, {r8-r11}
    // At most 32 groups for an accumulator.
2:  mov r3, r2
    cmp r3, #32
    it hi
    movhi r3, #32
    sub r2, r2, r3
    str r2, [sp]
    add r3, r1, r3, lsl #5
3:  PT_LANES_4
    PT_LANES_4
    PT_LANES_4
    PT_LANES_4
    cmp r1, r3
    bne 3b
    ldr r3, [sp, #8]
    ldmia r3, {r4-r7}
    add r4, r4, r8, asr #8
    add r5, r5, r9, asr #8
    add r6, r6, r10, asr #8
    add r7, r7, r11, asr #8
    stmia r3!, {r4-r7}
    ldr r2, [sp]
    cbz r2, 4f
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
    b 2b
4:  str r3, [sp, #8]
    ldr r4, [sp, #52]
    subs r4, r4, #1
    str r4, [sp, #52]
    bne 1b
    add sp, sp, #16
    pop {r4-r11, pc}
    .size palmtop_dsp_lanes_gemv, . - palmtop_dsp_lanes_gemv

// palmtop_dsp_lanes_near(w, near, quads): copies two of the four rows of `quads` times four columns,
// each word followed by its low bytes as lanes: what PT_LANES_2X2 reads.
    .section .text.palmtop_dsp_lanes_near, "ax", %progbits
    .global palmtop_dsp_lanes_near
    .type palmtop_dsp_lanes_near, %function
    .thumb_func
    .balign 4
palmtop_dsp_lanes_near:
    push {r4-r6, lr}
1:  ldrd r3, r5, [r0], #16
    sxtb16 r4, r3
    sxtb16 r6, r5
    stmia r1!, {r3-r6}
    subs r2, r2, #1
    bne 1b
    pop {r4-r6, pc}
    .size palmtop_dsp_lanes_near, . - palmtop_dsp_lanes_near

// palmtop_dsp_rows_near(w, near, quads, stride): the same of two rows in order, as the lanes of the
// even and of the odd columns: what PT_ROWS_2X2 reads.
    .section .text.palmtop_dsp_rows_near, "ax", %progbits
    .global palmtop_dsp_rows_near
    .type palmtop_dsp_rows_near, %function
    .thumb_func
    .balign 4
palmtop_dsp_rows_near:
    push {r4-r8, lr}
    add r8, r0, r3
1:  ldr r4, [r0], #4
    ldr r6, [r8], #4
    sxtb16 r3, r4
    sxtb16 r4, r4, ror #8
    sxtb16 r5, r6
    sxtb16 r6, r6, ror #8
    stmia r1!, {r3-r6}
    subs r2, r2, #1
    bne 1b
    pop {r4-r8, pc}
    .size palmtop_dsp_rows_near, . - palmtop_dsp_rows_near

// Two rows by two tokens by four columns: r0 near weights, r1 and r2 activations.
    .macro PT_LANES_2X2
    ldmia r0!, {r4-r7}
    ldrd r12, lr, [r1], #8
    smlad r8, r4, r12, r8
    smlad r8, r5, lr, r8
    smlad r10, r6, r12, r10
    smlad r10, r7, lr, r10
    ldrd r12, lr, [r2], #8
    smlad r9, r4, r12, r9
    smlad r9, r5, lr, r9
    smlad r11, r6, r12, r11
    smlad r11, r7, lr, r11
    .endm
    .macro PT_LANES_2X1
    ldmia r0!, {r4-r7}
    ldrd r12, lr, [r1], #8
    smlad r8, r4, r12, r8
    smlad r8, r5, lr, r8
    smlad r10, r6, r12, r10
    smlad r10, r7, lr, r10
    .endm
    .macro PT_ROWS_2X2
    ldmia r0!, {r4-r7}
    ldr r12, [r1], #4
    sxtb16 lr, r12, ror #8
    sxtb16 r12, r12
    smlad r8, r4, r12, r8
    smlad r8, r5, lr, r8
    smlad r10, r6, r12, r10
    smlad r10, r7, lr, r10
    ldr r12, [r2], #4
    sxtb16 lr, r12, ror #8
    sxtb16 r12, r12
    smlad r9, r4, r12, r9
    smlad r9, r5, lr, r9
    smlad r11, r6, r12, r11
    smlad r11, r7, lr, r11
    .endm
    .macro PT_ROWS_2X1
    ldmia r0!, {r4-r7}
    ldr r12, [r1], #4
    sxtb16 lr, r12, ror #8
    sxtb16 r12, r12
    smlad r8, r4, r12, r8
    smlad r8, r5, lr, r8
    smlad r10, r6, r12, r10
    smlad r10, r7, lr, r10
    .endm

// name(near, x, sums, groups, pitch, tokens): adds to the sums of two rows, `tokens` of the one and
// then `tokens` of the other, the products of `groups` times 16 columns of near weights with rows of
// activations, `pitch` bytes from one to the next.
    .macro PT_GEMM name, two, one, bytes, shift, times
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 4
\name:
    push {r0, r2, r4-r11, lr}
    // [sp] near, [sp+4] sums, [sp+44] pitch, [sp+48] tokens left, [sp+52] from sums of one row to
    // those of the other, [sp+56] from the end of a pair of rows of x to the next one.
    sub sp, sp, #8
    ldr r5, [sp, #52]
    ldr r4, [sp, #56]
    lsl r6, r4, #2
    str r6, [sp]
    mov r7, #\bytes
    mul r7, r7, r3
    rsb r7, r7, r5, lsl #1
    str r7, [sp, #4]
    add r2, r1, r5
    add r3, r0, r3, lsl #6
    subs r4, r4, #2
    blo 4f
1:  str r4, [sp, #56]
    ldr r0, [sp, #8]
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
2:  .rept \times
    \two
    .endr
    cmp r0, r3
    bne 2b
    ldr r0, [sp, #12]
    ldr r12, [sp]
    ldrd r4, r5, [r0]
    .if \shift
    add r4, r4, r8, asr #\shift
    add r5, r5, r9, asr #\shift
    .else
    add r4, r4, r8
    add r5, r5, r9
    .endif
    add r12, r12, r0
    strd r4, r5, [r0], #8
    ldrd r4, r5, [r12]
    .if \shift
    add r4, r4, r10, asr #\shift
    add r5, r5, r11, asr #\shift
    .else
    add r4, r4, r10
    add r5, r5, r11
    .endif
    strd r4, r5, [r12]
    str r0, [sp, #12]
    ldr r5, [sp, #4]
    ldr r4, [sp, #56]
    add r1, r1, r5
    add r2, r2, r5
    subs r4, r4, #2
    bhs 1b
4:  cmn r4, #1
    bne 6f
    ldr r0, [sp, #8]
    mov r8, #0
    mov r10, #0
5:  \one
    \one
    cmp r0, r3
    bne 5b
    ldr r0, [sp, #12]
    ldr r12, [sp]
    ldr r4, [r0]
    ldr r5, [r12, r0]
    .if \shift
    add r4, r4, r8, asr #\shift
    add r5, r5, r10, asr #\shift
    .else
    add r4, r4, r8
    add r5, r5, r10
    .endif
    str r4, [r0]
    str r5, [r12, r0]
6:  add sp, sp, #16
    pop {r4-r11, pc}
    .size \name, . - \name
    .endm

    PT_GEMM palmtop_dsp_lanes_gemm, PT_LANES_2X2, PT_LANES_2X1, 32, 8, 4
    PT_GEMM palmtop_dsp_rows_gemm, PT_ROWS_2X2, PT_ROWS_2X1, 16, 0, 1

// One row of weights in order by four columns: r4 and lr hold the lanes of activations.
    .macro PT_ROW pointer, sum
    ldr r5, [\pointer], #4
    sxtb16 r6, r5
    sxtb16 r5, r5, ror #8
    smlad \sum, r6, r4, \sum
    smlad \sum, r5, lr, \sum
    .endm
    .macro PT_ROWS_4
    ldr r4, [r1], #4
    sxtb16 lr, r4, ror #8
    sxtb16 r4, r4
    PT_ROW r0, r8
    PT_ROW r2, r9
    PT_ROW r12, r10
    PT_ROW r3, r11
    .endm

// palmtop_dsp_rows_gemv(w, x, sums, stride): four rows of `stride` bytes, in order.
    .section .text.palmtop_dsp_rows_gemv, "ax", %progbits
    .global palmtop_dsp_rows_gemv
    .type palmtop_dsp_rows_gemv, %function
    .thumb_func
    .balign 4
palmtop_dsp_rows_gemv:
    push {r2, r4-r11, lr}
    add r7, r1, r3
    add r2, r0, r3
    add r12, r2, r3
    add r3, r3, r12
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
1:  PT_ROWS_4
    cmp r1, r7
    bne 1b
    pop {r2}
    stmia r2, {r8-r11}
    pop {r4-r11, pc}
    .size palmtop_dsp_rows_gemv, . - palmtop_dsp_rows_gemv

// palmtop_dsp_prepare(values, lanes, quads): `lanes::prepare` of `quads` times four values.
    .section .text.palmtop_dsp_prepare, "ax", %progbits
    .global palmtop_dsp_prepare
    .type palmtop_dsp_prepare, %function
    .thumb_func
    .balign 4
palmtop_dsp_prepare:
    push {r4, r5, r6, lr}
    mov r6, #0xFF00FF00
1:  ldr r3, [r0], #4
    sxtb16 r4, r3, ror #8
    and r5, r6, r3, lsl #8
    ssub16 r5, r5, r4
    strd r4, r5, [r1], #8
    subs r2, r2, #1
    bne 1b
    pop {r4, r5, r6, pc}
    .size palmtop_dsp_prepare, . - palmtop_dsp_prepare

// palmtop_dsp_dot(a, b, count): the sum of `count` products of signed bytes.
    .macro PT_DOT_4
    ldr r4, [r0], #4
    ldr r6, [r1], #4
    sxtb16 r5, r4
    sxtb16 r4, r4, ror #8
    sxtb16 r7, r6
    sxtb16 r6, r6, ror #8
    smlad r3, r5, r7, r3
    smlad r3, r4, r6, r3
    .endm
    .section .text.palmtop_dsp_dot, "ax", %progbits
    .global palmtop_dsp_dot
    .type palmtop_dsp_dot, %function
    .thumb_func
    .balign 4
palmtop_dsp_dot:
    push {r4-r7, lr}
    movs r3, #0
    subs r2, r2, #8
    blo 2f
1:  PT_DOT_4
    PT_DOT_4
    subs r2, r2, #8
    bhs 1b
2:  adds r2, r2, #8
    beq 4f
3:  ldrsb r4, [r0], #1
    ldrsb r5, [r1], #1
    mla r3, r4, r5, r3
    subs r2, r2, #1
    bne 3b
4:  mov r0, r3
    pop {r4-r7, pc}
    .size palmtop_dsp_dot, . - palmtop_dsp_dot

// palmtop_dsp_unpack4(packed, near): the 32 weights of a group of four-bit ones as signed bytes; returns
// their sum.
    .section .text.palmtop_dsp_unpack4, "ax", %progbits
    .global palmtop_dsp_unpack4
    .type palmtop_dsp_unpack4, %function
    .thumb_func
    .balign 4
palmtop_dsp_unpack4:
    push {r4-r8, lr}
    mov r6, #0x0F0F0F0F
    mov r7, #0x08080808
    mov r8, #0
    // Each of the 32 is 8 more in the file.
    mvn r2, #255
    movs r3, #4
1:  ldr r12, [r0], #4
    and r4, r6, r12
    and r5, r6, r12, lsr #4
    usada8 r2, r4, r8, r2
    usada8 r2, r5, r8, r2
    ssub8 r4, r4, r7
    ssub8 r5, r5, r7
    str r5, [r1, #16]
    str r4, [r1], #4
    subs r3, r3, #1
    bne 1b
    mov r0, r2
    pop {r4-r8, pc}
    .size palmtop_dsp_unpack4, . - palmtop_dsp_unpack4

// palmtop_weighted_sums(weights, values, pairs, pitch, sums): the sums of four columns of twice `pairs`
// rows of bytes, `pitch` bytes apart, each with its 15-bit weight.
    .section .text.palmtop_weighted_sums, "ax", %progbits
    .global palmtop_weighted_sums
    .type palmtop_weighted_sums, %function
    .thumb_func
    .balign 4
palmtop_weighted_sums:
    push {r4-r11, lr}
    mov r8, #0
    mov r9, #0
    mov r10, #0
    mov r11, #0
1:  ldr r4, [r1]
    ldr r5, [r1, r3]
    ldr r12, [r0], #4
    add r1, r1, r3, lsl #1
    sxtb16 r6, r4
    sxtb16 r4, r4, ror #8
    sxtb16 r7, r5
    sxtb16 r5, r5, ror #8
    pkhbt lr, r6, r7, lsl #16
    smlad r8, lr, r12, r8
    pkhbt lr, r4, r5, lsl #16
    smlad r9, lr, r12, r9
    pkhtb lr, r7, r6, asr #16
    smlad r10, lr, r12, r10
    pkhtb lr, r5, r4, asr #16
    smlad r11, lr, r12, r11
    subs r2, r2, #1
    bne 1b
    ldr r0, [sp, #36]
    stmia r0, {r8-r11}
    pop {r4-r11, pc}
    .size palmtop_weighted_sums, . - palmtop_weighted_sums
