;; Parity of byte ranges of one imported memory, 64 bytes a step, then 16, and XOR then single bytes. Any alignment.
;; The second parity counts in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d): twice a byte is the byte shifted left, XOR 0x1d where its
;; highest bit was set.
(module
  (import "dazzle" "memory" (memory 1))

  ;; target[i] = first[i] ^ second[i] for 0 <= i < length. `target` may be `first`; other overlaps are not allowed.
  (func (export "xor") (param $target i32) (param $first i32) (param $second i32) (param $length i32)
    (block $wideDone
      (loop $wide
        (br_if $wideDone (i32.lt_u (local.get $length) (i32.const 64)))
        (v128.store (local.get $target)
          (v128.xor (v128.load (local.get $first)) (v128.load (local.get $second))))
        (v128.store offset=16 (local.get $target)
          (v128.xor (v128.load offset=16 (local.get $first)) (v128.load offset=16 (local.get $second))))
        (v128.store offset=32 (local.get $target)
          (v128.xor (v128.load offset=32 (local.get $first)) (v128.load offset=32 (local.get $second))))
        (v128.store offset=48 (local.get $target)
          (v128.xor (v128.load offset=48 (local.get $first)) (v128.load offset=48 (local.get $second))))
        (local.set $target (i32.add (local.get $target) (i32.const 64)))
        (local.set $first (i32.add (local.get $first) (i32.const 64)))
        (local.set $second (i32.add (local.get $second) (i32.const 64)))
        (local.set $length (i32.sub (local.get $length) (i32.const 64)))
        (br $wide)))
    (block $narrowDone
      (loop $narrow
        (br_if $narrowDone (i32.lt_u (local.get $length) (i32.const 16)))
        (v128.store (local.get $target)
          (v128.xor (v128.load (local.get $first)) (v128.load (local.get $second))))
        (local.set $target (i32.add (local.get $target) (i32.const 16)))
        (local.set $first (i32.add (local.get $first) (i32.const 16)))
        (local.set $second (i32.add (local.get $second) (i32.const 16)))
        (local.set $length (i32.sub (local.get $length) (i32.const 16)))
        (br $narrow)))
    (block $bytesDone
      (loop $bytes
        (br_if $bytesDone (i32.eqz (local.get $length)))
        (i32.store8 (local.get $target)
          (i32.xor (i32.load8_u (local.get $first)) (i32.load8_u (local.get $second))))
        (local.set $target (i32.add (local.get $target) (i32.const 1)))
        (local.set $first (i32.add (local.get $first) (i32.const 1)))
        (local.set $second (i32.add (local.get $second) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $bytes))))

  ;; Of `slices` (at least one) slices D0, D1, …, of which the last begins at `last` and each other `stride` before the next:
  ;; first[i] = the XOR of all, second[i] = the sum of 2^k Dk, by Horner's rule, for 0 <= i < length, a multiple of 16.
  (func (export "parities") (param $first i32) (param $second i32) (param $last i32) (param $stride i32) (param $slices i32) (param $length i32)
    (local $at i32) (local $left i32) (local $d v128)
    (local $p0 v128) (local $p1 v128) (local $p2 v128) (local $p3 v128) (local $q0 v128) (local $q1 v128) (local $q2 v128) (local $q3 v128)
    (block $wideDone
      (loop $wide
        (br_if $wideDone (i32.lt_u (local.get $length) (i32.const 64)))
        (local.set $at (local.get $last))
        (local.set $left (local.get $slices))
        (local.set $p0 (v128.const i64x2 0 0)) (local.set $q0 (v128.const i64x2 0 0))
        (local.set $p1 (v128.const i64x2 0 0)) (local.set $q1 (v128.const i64x2 0 0))
        (local.set $p2 (v128.const i64x2 0 0)) (local.set $q2 (v128.const i64x2 0 0))
        (local.set $p3 (v128.const i64x2 0 0)) (local.set $q3 (v128.const i64x2 0 0))
        (loop $wideSlice
          (local.set $d (v128.load (local.get $at)))
          (local.set $p0 (v128.xor (local.get $p0) (local.get $d)))
          (local.set $q0 (v128.xor (local.get $d) (v128.xor (i8x16.add (local.get $q0) (local.get $q0))
            (v128.and (i8x16.lt_s (local.get $q0) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
          (local.set $d (v128.load offset=16 (local.get $at)))
          (local.set $p1 (v128.xor (local.get $p1) (local.get $d)))
          (local.set $q1 (v128.xor (local.get $d) (v128.xor (i8x16.add (local.get $q1) (local.get $q1))
            (v128.and (i8x16.lt_s (local.get $q1) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
          (local.set $d (v128.load offset=32 (local.get $at)))
          (local.set $p2 (v128.xor (local.get $p2) (local.get $d)))
          (local.set $q2 (v128.xor (local.get $d) (v128.xor (i8x16.add (local.get $q2) (local.get $q2))
            (v128.and (i8x16.lt_s (local.get $q2) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
          (local.set $d (v128.load offset=48 (local.get $at)))
          (local.set $p3 (v128.xor (local.get $p3) (local.get $d)))
          (local.set $q3 (v128.xor (local.get $d) (v128.xor (i8x16.add (local.get $q3) (local.get $q3))
            (v128.and (i8x16.lt_s (local.get $q3) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
          (local.set $at (i32.sub (local.get $at) (local.get $stride)))
          (br_if $wideSlice (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (v128.store (local.get $first) (local.get $p0)) (v128.store (local.get $second) (local.get $q0))
        (v128.store offset=16 (local.get $first) (local.get $p1)) (v128.store offset=16 (local.get $second) (local.get $q1))
        (v128.store offset=32 (local.get $first) (local.get $p2)) (v128.store offset=32 (local.get $second) (local.get $q2))
        (v128.store offset=48 (local.get $first) (local.get $p3)) (v128.store offset=48 (local.get $second) (local.get $q3))
        (local.set $last (i32.add (local.get $last) (i32.const 64)))
        (local.set $first (i32.add (local.get $first) (i32.const 64)))
        (local.set $second (i32.add (local.get $second) (i32.const 64)))
        (local.set $length (i32.sub (local.get $length) (i32.const 64)))
        (br $wide)))
    (block $narrowDone
      (loop $narrow
        (br_if $narrowDone (i32.lt_u (local.get $length) (i32.const 16)))
        (local.set $at (local.get $last))
        (local.set $left (local.get $slices))
        (local.set $p0 (v128.const i64x2 0 0)) (local.set $q0 (v128.const i64x2 0 0))
        (loop $narrowSlice
          (local.set $d (v128.load (local.get $at)))
          (local.set $p0 (v128.xor (local.get $p0) (local.get $d)))
          (local.set $q0 (v128.xor (local.get $d) (v128.xor (i8x16.add (local.get $q0) (local.get $q0))
            (v128.and (i8x16.lt_s (local.get $q0) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
          (local.set $at (i32.sub (local.get $at) (local.get $stride)))
          (br_if $narrowSlice (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (v128.store (local.get $first) (local.get $p0)) (v128.store (local.get $second) (local.get $q0))
        (local.set $last (i32.add (local.get $last) (i32.const 16)))
        (local.set $first (i32.add (local.get $first) (i32.const 16)))
        (local.set $second (i32.add (local.get $second) (i32.const 16)))
        (local.set $length (i32.sub (local.get $length) (i32.const 16)))
        (br $narrow))))

  ;; target[i] ^= factor * source[i] for 0 <= i < length, a multiple of 16: by two tables, of the factor times each low half of a byte and times each high one.
  (func (export "addMultiple") (param $target i32) (param $source i32) (param $factor i32) (param $length i32)
    (local $low v128) (local $high v128) (local $lowPower v128) (local $highPower v128) (local $d v128)
    (local.set $lowPower (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
    (local.set $highPower (v128.const i8x16 0 16 32 48 64 80 96 112 128 144 160 176 192 208 224 240))
    (block $tablesDone
      (loop $tables
        (br_if $tablesDone (i32.eqz (local.get $factor)))
        (if (i32.and (local.get $factor) (i32.const 1))
          (then
            (local.set $low (v128.xor (local.get $low) (local.get $lowPower)))
            (local.set $high (v128.xor (local.get $high) (local.get $highPower)))))
        (local.set $lowPower (call $double (local.get $lowPower)))
        (local.set $highPower (call $double (local.get $highPower)))
        (local.set $factor (i32.shr_u (local.get $factor) (i32.const 1)))
        (br $tables)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $d (v128.load (local.get $source)))
        (v128.store (local.get $target)
          (v128.xor (v128.load (local.get $target))
            (v128.xor
              (i8x16.swizzle (local.get $low) (v128.and (local.get $d) (v128.const i64x2 0x0f0f0f0f0f0f0f0f 0x0f0f0f0f0f0f0f0f)))
              (i8x16.swizzle (local.get $high)
                (v128.and (i16x8.shr_u (local.get $d) (i32.const 4)) (v128.const i64x2 0x0f0f0f0f0f0f0f0f 0x0f0f0f0f0f0f0f0f))))))
        (local.set $target (i32.add (local.get $target) (i32.const 16)))
        (local.set $source (i32.add (local.get $source) (i32.const 16)))
        (local.set $length (i32.sub (local.get $length) (i32.const 16)))
        (br $next))))

  (func $double (param $d v128) (result v128)
    (v128.xor (i8x16.add (local.get $d) (local.get $d))
      (v128.and (i8x16.lt_s (local.get $d) (v128.const i64x2 0 0)) (v128.const i64x2 0x1d1d1d1d1d1d1d1d 0x1d1d1d1d1d1d1d1d)))))
