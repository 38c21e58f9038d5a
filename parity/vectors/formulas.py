"""The model, its loss, its gradients and Adam as formulas, for those who write them in another language."""

FORMULAS = """\
Documents are lists of tokens from 0 to vocab_size - 1; the last one is BOS, which stands at both ends. All weights are
matrices, applied to a vector as w·x: (w·x)[i] = sum over j of w[i][j] x[j]. There are no biases, and no gains.

| tensor | rows, columns |
| --- | --- |
| `wte`, `lm_head` (not tied) | vocab_size, n_embd |
| `wpe` | block_size, n_embd |
| `layer0.attn_wq`, `layer0.attn_wk`, `layer0.attn_wv`, `layer0.attn_wo`; so for layer1, ... | n_embd, n_embd |
| `layer0.mlp_fc1` | 4 * n_embd, n_embd |
| `layer0.mlp_fc2` | n_embd, 4 * n_embd |

*Forward*, for a document's tokens at the positions t = 0 to n - 1, with norm(x) = x / sqrt(mean of x[i]² + 1e-5):

    x = norm(wte[tokens[t]] + wpe[t])
    for each layer:
        h = norm(x);  q[t] = attn_wq·h;  k[t] = attn_wk·h;  v[t] = attn_wv·h
        split each into n_head parts of head_dim = n_embd / n_head numbers, one after another; for each part (head):
            weights = softmax over s = 0 to t of (q[t] · k[s] / sqrt(head_dim));  head = sum over s of weights[s] v[s]
        x = x + attn_wo·(the heads, one after another)
        x = x + mlp_fc2·act(mlp_fc1·norm(x))        act(a) = max(0, a) for "relu", max(0, a)² for "relu2"
    logits[t] = lm_head·x                           no norm before it

*Loss*: of a position -log(softmax(logits[t])[tokens[t + 1]]); of a document the mean over its n positions; of a batch
the mean over its documents, whatever their lengths. Tokens after position n are left out.

*Backward*: the derivatives of the batch's loss by every element of every matrix; automatic differentiation will do.
That of act at exactly 0 is 0.

*Adam*, for every element with its gradient g, where step is the number of updates done before this one:

    m = beta1 m + (1 - beta1) g;            v = beta2 v + (1 - beta2) g²
    m_hat = m / (1 - beta1^(step + 1));  v_hat = v / (1 - beta2^(step + 1))
    rate = learning_rate (1 - step / num_steps)                       for the lr_schedule "linear"
    rate = learning_rate (1 + cos(pi step / num_steps)) / 2           for "cosine"
    param = param - rate m_hat / (sqrt(v_hat) + eps_adam)
"""
