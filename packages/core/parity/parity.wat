;; XOR of byte ranges of one imported memory, 64 bytes a step, then 16, then single bytes. Any length, any alignment.
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
        (br $bytes)))))
