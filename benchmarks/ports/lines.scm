;; A port's side of lines.py in Scheme, put into the port where its parameters and moments are there: params-vec,
;; adam-m and adam-v in an order of its own, and state-dict, which has names.
(define parity-tokens '())
(define parity-step 0)
(define parity-given #f)
(define parity-out '())
(define parity-started 0)

(define parity-names
  (append '("wte" "wpe" "lm_head")
          (append-map (lambda (layer)
                        (map (lambda (name) (string-append "layer" (number->string layer) "." name))
                             '("attn_wq" "attn_wk" "attn_wv" "attn_wo" "mlp_fc1" "mlp_fc2")))
                      (iota n-layer))))

;; Where params-vec has what comes next in the order of names.
(define parity-places
  (let ((place (make-hash-table eq?)))
    (do ((i 0 (+ i 1))) ((= i num-params)) (hash-table-set! place (vector-ref params-vec i) i))
    (append-map (lambda (name)
                  (append-map (lambda (row) (map (lambda (p) (hash-table-ref place p)) row))
                              (vector->list (hash-table-ref state-dict name))))
                parity-names)))

(define (parity-words)
  (let ((line (read-line)))
    (if (eof-object? line) (exit))
    (let loop ((at 0) (words '()))
      (let ((end (or (string-index line #\space at) (string-length line))))
        (let ((words (if (= at end) words (cons (substring line at end) words))))
          (if (< end (string-length line)) (loop (+ end 1) words) (reverse words)))))))

(define (parity-numbers) (map string->number (parity-words)))

;; Waits for the next step, and gives its number; a state that was loaded is in place.
(define (parity-next)
  (let ((words (parity-words)))
    (if (string=? (car words) "load")
        (begin
          (set! parity-step (string->number (cadr words)))
          (for-each (lambda (i x) (set-value-data! (vector-ref params-vec i) x)) parity-places (parity-numbers))
          (for-each (lambda (i x) (vector-set! adam-m i x)) parity-places (parity-numbers))
          (for-each (lambda (i x) (vector-set! adam-v i x)) parity-places (parity-numbers))
          (parity-next))
        (begin
          (set! parity-tokens (list->vector (map string->number (cdr words))))
          (set! parity-given (and (string=? (car words) "update") (parity-numbers)))
          (set! parity-started (get-internal-real-time))
          (set! parity-step (+ parity-step 1))
          (- parity-step 1)))))

(define (parity-say name numbers)
  (set! parity-out (cons (cons name numbers) parity-out)))

(define (parity-logits logits) (parity-say "logits" (map value-data logits)))

(define (parity-of read) (map (lambda (i) (read (vector-ref params-vec i))) parity-places))

;; The gradients that backward gave; those that the parent gave take their place.
(define (parity-gradients)
  (parity-say "grads" (parity-of value-grad))
  (if parity-given
      (for-each (lambda (i g) (set-value-grad! (vector-ref params-vec i) g)) parity-places parity-given)))

(define (parity-answer loss)
  (parity-say "seconds" (list (/ (- (get-internal-real-time) parity-started) 1.0 internal-time-units-per-second)))
  (parity-say "loss" (list (value-data loss)))
  (parity-say "params" (parity-of value-data))
  (parity-say "m" (map (lambda (i) (vector-ref adam-m i)) parity-places))
  (parity-say "v" (map (lambda (i) (vector-ref adam-v i)) parity-places))
  (for-each (lambda (line)
              (newline)
              (display "parity ")
              (display (car line))
              (for-each (lambda (x) (display " ") (display (inexact x))) (cdr line))
              (newline))
            (reverse parity-out))
  (set! parity-out '())
  (display "parity done")
  (newline)
  (flush-output-port (current-output-port)))
