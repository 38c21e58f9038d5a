<?php
// A port's side of lines.py in PHP, for `php -d auto_prepend_file`: the class Parity.
ini_set('precision', '17');

class Parity {
    public static array $tokens = [];
    private static int $step = 0;
    private static ?array $given = null;
    private static array $out = [];
    private static float $started = 0.0;

    private static function numbers(): array {
        return array_map('floatval', explode(' ', trim(fgets(STDIN))));
    }

    private static function say(string $name, array $values): void {
        self::$out[] = "\nparity $name " . implode(' ', $values) . "\n";
    }

    /** Waits for the next step, and gives its number; a state that was loaded is in place. */
    public static function next(array $params, array &$m, array &$v): int {
        while (($line = fgets(STDIN)) !== false) {
            $words = explode(' ', trim($line));
            $word = array_shift($words);
            if ($word === 'load') {
                self::$step = (int) $words[0];
                foreach (self::numbers() as $i => $x) $params[$i]->data = $x;
                $m = self::numbers();
                $v = self::numbers();
                continue;
            }
            self::$tokens = array_map('intval', $words);
            self::$given = $word === 'update' ? self::numbers() : null;
            self::$started = microtime(true);
            return self::$step++;
        }
        exit(0);
    }

    public static function logits(array $values): void {
        self::say('logits', array_map(fn($value) => $value->data, $values));
    }

    /** The gradients that backward gave; those that the parent gave take their place. */
    public static function gradients(array $params): void {
        self::say('grads', array_map(fn($p) => $p->grad, $params));
        foreach (self::$given ?? [] as $i => $g) $params[$i]->grad = $g;
    }

    public static function answer(float $loss, array $params, array $m, array $v): void {
        self::say('seconds', [microtime(true) - self::$started]);
        self::say('loss', [$loss]);
        self::say('params', array_map(fn($p) => $p->data, $params));
        self::say('m', $m);
        self::say('v', $v);
        echo implode('', self::$out), "\nparity done\n";
        self::$out = [];
    }
}
