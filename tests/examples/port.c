/* The training step of microGPT in C99, as a subject that speaks JSON lines:
 *
 *     cc -O2 -std=c99 -o port port.c -lm && parity check -- ./port
 *
 * A pattern for a port to another language, in the order in which one may write it: errors and memory, JSON, the
 * model, forward, backward, Adam, and the protocol, which `parity check --help-protocol` describes. Plain loops in
 * double, one position after the other. A matrix holds its rows one after the other; w applied to x is w·x; d_x is
 * the gradient of the loss with respect to x. Whatever goes wrong is answered in one sentence, which ends the check.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL "microgpt-parity 1"

/* Errors and memory. */

static void fail(const char *format, ...) {
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    printf("{\"type\": \"error\", \"message\": \"");
    for (const char *c = message; *c; c++) /* it may quote anything, and must be JSON all the same */
        putchar(*c < ' ' || *c > '~' || *c == '"' || *c == '\\' ? '?' : *c);
    printf("\"}\n");
    fflush(stdout);
    exit(EXIT_FAILURE);
}

typedef struct Block {
    struct Block *next;
    double memory[]; /* so that it is aligned for numbers and pointers */
} Block;

static Block *blocks;

/* Zeros that live until the message is answered, when all of them are released at once. */
static void *temporary(size_t count, size_t size) {
    const size_t most = ((size_t)-1 - sizeof(Block)) / size;
    Block *block = count <= most ? calloc(1, sizeof(Block) + count * size) : NULL;
    if (!block)
        fail("There is no memory for %zu times %zu bytes.", count, size);
    block->next = blocks;
    blocks = block;
    return block->memory;
}

static void release_temporaries(void) {
    for (Block *next; blocks; blocks = next) {
        next = blocks->next;
        free(blocks);
    }
}

/* JSON: a tree whose lists and objects are chains from first to next. */

typedef enum { OTHER, NUMBER, STRING, LIST, OBJECT } Kind; /* nothing here asks for true, false or null */

static const char *const kinds[] = {"", "a number", "a string", "a list", "an object"};

typedef struct Json {
    Kind kind;
    double number;
    const char *text, *key;
    size_t count;
    struct Json *first, *next;
} Json;

enum { DEEPEST = 16 }; /* a message of the protocol has 4 levels, and every level is a call of parse */

/* Whether a word stands here, behind white space; *at is then moved behind it. */
static int skip(char **at, const char *word) {
    *at += strspn(*at, " \t\r\n");
    const int found = strncmp(*at, word, strlen(word)) == 0;
    *at += found ? strlen(word) : 0;
    return found;
}

static void expect(char **at, const char *word) {
    if (!skip(at, word))
        fail("This is not JSON: there should be %s at '%.20s'.", strcmp(word, "\"") == 0 ? "a key" : word, *at);
}

/* What stands between quotes, unescaped in place; *at is moved from behind the first quote to behind the second. */
static const char *parse_string(char **at) {
    static const char letters[] = "bfnrtu", meant[] = "\b\f\n\r\t?"; /* nothing in a message needs \u */
    char *start = *at, *end = start, *c = start;
    for (; *c && *c != '"'; c++) {
        const int escaped = *c == '\\';
        c += escaped;
        const char *letter = escaped ? strchr(letters, *c) : NULL;
        *end++ = letter ? meant[letter - letters] : *c;
        if (!*c)
            break;
    }
    if (!*c)
        fail("This is not JSON: a string has no end.");
    *at = c + 1;
    *end = '\0';
    return start;
}

static Json *parse(char **at, int depth) {
    Json *json = temporary(1, sizeof *json), **end = &json->first;
    if (depth > DEEPEST)
        fail("This JSON is nested more than %d levels deep.", DEEPEST);
    if (skip(at, "{") || skip(at, "[")) {
        json->kind = (*at)[-1] == '{' ? OBJECT : LIST;
        for (; !skip(at, json->kind == OBJECT ? "}" : "]"); json->count++, end = &(*end)->next) {
            const char *key = NULL;
            if (json->count)
                expect(at, ",");
            if (json->kind == OBJECT) {
                expect(at, "\"");
                key = parse_string(at);
                expect(at, ":");
            }
            *end = parse(at, depth + 1);
            (*end)->key = key;
        }
    } else if (skip(at, "\"")) {
        json->kind = STRING;
        json->text = parse_string(at);
    } else if (!skip(at, "true") && !skip(at, "false") && !skip(at, "null")) {
        char *end_of_number = *at + strspn(*at, "+-.0123456789Ee"), *stop; /* strtod would take inf and 0x10, too */
        json->kind = NUMBER;
        json->number = strtod(*at, &stop);
        if (stop == *at || stop != end_of_number)
            fail("This is not JSON: there should be a value at '%.20s'.", *at);
        *at = stop;
    }
    return json;
}

static const Json *member(const Json *object, const char *key, Kind kind) {
    for (const Json *json = object->first; json; json = json->next)
        if (strcmp(json->key, key) == 0 && json->kind == kind)
            return json;
    fail("%s is missing or not %s.", key, kinds[kind]);
    return NULL;
}

static double number(const Json *object, const char *key) {
    return member(object, key, NUMBER)->number;
}

static size_t whole(const Json *json, const char *what, double least, double most) {
    if (json->kind != NUMBER || !(json->number >= least && json->number <= most) || json->number != floor(json->number))
        fail("%s must be a whole number from %.0f to %.0f.", what, least, most);
    return (size_t)json->number;
}

/* Which of two words stands there: 0 for the first, 1 for the second. */
static int either(const Json *object, const char *key, const char *first, const char *second) {
    const char *text = member(object, key, STRING)->text;
    if (strcmp(text, first) != 0 && strcmp(text, second) != 0)
        fail("%s must be %s or %s, not %.40s.", key, first, second, text);
    return strcmp(text, second) == 0;
}

/* The model: config, hyper-parameters and state. */

enum { WTE, WPE, LM_HEAD, FIRST_LAYER };
enum { WQ, WK, WV, WO, FC1, FC2, PER_LAYER };

typedef struct {
    char name[40];
    size_t rows, columns;
    double *param, *grad; /* where its elements start among the model's */
} Tensor;

typedef struct {
    size_t n_layer, n_embd, n_head, head_dim, block_size, vocab_size;
    int relu2, cosine;
    double learning_rate, beta1, beta2, eps_adam, num_steps;
    int loaded;
    double step; /* updates done so far */
    size_t n_tensors, n_params;
    Tensor *tensors;
    double *params, *grads, *m, *v; /* n_params each, one tensor after the other, in one piece of memory */
} Model;

static void free_model(Model *model) {
    free(model->tensors);
    free(model->params);
    *model = (Model){0};
}

static void add_tensor(Model *model, const char *name, size_t rows, size_t columns) {
    Tensor *tensor = &model->tensors[model->n_tensors++];
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->rows = rows;
    tensor->columns = columns;
    tensor->param = model->params + model->n_params;
    tensor->grad = model->grads + model->n_params;
    model->n_params += rows * columns;
}

static void make_model(Model *model, const Json *config, const Json *hyper) {
    static const char *const names[] = {"attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2"};
    size_t *const sizes[] = {&model->n_layer, &model->n_embd, &model->n_head, &model->block_size, &model->vocab_size};
    static const char *const size_names[] = {"n_layer", "n_embd", "n_head", "block_size", "vocab_size"};
    free_model(model);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        *sizes[i] = whole(member(config, size_names[i], NUMBER), size_names[i], 1, 1e9);
    model->relu2 = either(config, "activation", "relu", "relu2");
    model->cosine = either(hyper, "lr_schedule", "linear", "cosine");
    model->learning_rate = number(hyper, "learning_rate");
    model->beta1 = number(hyper, "beta1");
    model->beta2 = number(hyper, "beta2");
    model->eps_adam = number(hyper, "eps_adam");
    model->num_steps = number(hyper, "num_steps");
    const size_t embd = model->n_embd;
    if (embd % model->n_head)
        fail("n_embd %zu cannot be split evenly over n_head %zu.", embd, model->n_head);
    model->head_dim = embd / model->n_head;

    const double count = (2.0 * model->vocab_size + model->block_size + 12.0 * model->n_layer * embd) * embd;
    if (count > 1e9) /* counted in double, which cannot overflow; below this, nothing else does */
        fail("%.3g parameters are more than I can do.", count);
    model->tensors = calloc(FIRST_LAYER + model->n_layer * PER_LAYER, sizeof(Tensor));
    model->params = calloc((size_t)count, 4 * sizeof(double));
    if (!model->tensors || !model->params)
        fail("There is no memory for %.3g parameters.", count);
    model->grads = model->params + (size_t)count;
    model->m = model->grads + (size_t)count;
    model->v = model->m + (size_t)count;
    add_tensor(model, "wte", model->vocab_size, embd);
    add_tensor(model, "wpe", model->block_size, embd);
    add_tensor(model, "lm_head", model->vocab_size, embd);
    for (size_t i = 0; i < model->n_layer; i++)
        for (int j = 0; j < PER_LAYER; j++) {
            char name[40];
            snprintf(name, sizeof name, "layer%zu.%s", i, names[j]);
            add_tensor(model, name, j == FC1 ? 4 * embd : embd, j == FC2 ? 4 * embd : embd);
        }
}

/* What a forward pass computes at one position. A second one of these holds the gradients by the same names. */

typedef struct {
    double *x, *norm1, *q, *k, *v, *weights, *heads, *middle, *norm2, *pre, *post, *output;
} Layer; /* x is the output of the layer before; weights are those of all positions so far, head by head */

typedef struct {
    double *embedding, *norm, *logits;
    Layer *layers;
} Position;

static Position *make_pass(const Model *model, size_t n) {
    const size_t embd = model->n_embd;
    Position *pass = temporary(n, sizeof *pass);
    double *logits = temporary(n, model->vocab_size * sizeof(double));
    for (size_t t = 0; t < n; t++) {
        pass[t].embedding = temporary(embd, sizeof(double));
        pass[t].norm = temporary(embd, sizeof(double));
        pass[t].logits = logits + t * model->vocab_size; /* a matrix in all */
        pass[t].layers = temporary(model->n_layer, sizeof(Layer));
        for (size_t i = 0; i < model->n_layer; i++) {
            Layer *layer = &pass[t].layers[i];
            double **const vectors[] = {&layer->norm1, &layer->q,      &layer->k,     &layer->v,
                                        &layer->heads, &layer->middle, &layer->norm2, &layer->output};
            for (size_t j = 0; j < sizeof vectors / sizeof *vectors; j++)
                *vectors[j] = temporary(embd, sizeof(double));
            layer->weights = temporary(t + 1, model->n_head * sizeof(double));
            layer->pre = temporary(4 * embd, sizeof(double));
            layer->post = temporary(4 * embd, sizeof(double));
            layer->x = i ? layer[-1].output : pass[t].norm;
        }
    }
    return pass;
}

/* Forward. */

static double dot(const double *x, const double *y, size_t n) {
    double sum = 0;
    for (size_t j = 0; j < n; j++)
        sum += x[j] * y[j];
    return sum;
}

/* y += factor * x */
static void add(double *y, const double *x, double factor, size_t n) {
    for (size_t j = 0; j < n; j++)
        y[j] += factor * x[j];
}

static void linear(double *y, const Tensor *w, const double *x) {
    for (size_t i = 0; i < w->rows; i++)
        y[i] = dot(w->param + i * w->columns, x, w->columns);
}

static double rms_scale(const double *x, size_t n) {
    return 1 / sqrt(dot(x, x, n) / n + 1e-5);
}

static void rmsnorm(double *y, const double *x, size_t n) {
    add(y, x, rms_scale(x, n), n);
}

static void softmax(double *p, const double *x, size_t n) {
    double most = x[0], total = 0;
    for (size_t j = 1; j < n; j++)
        most = x[j] > most ? x[j] : most;
    for (size_t j = 0; j < n; j++)
        total += p[j] = exp(x[j] - most);
    for (size_t j = 0; j < n; j++)
        p[j] /= total;
}

/* Layer i at position t; k and v of the positions before are the cache. */
static void forward_layer(const Model *model, const Position *pass, size_t t, size_t i) {
    const size_t embd = model->n_embd, dim = model->head_dim;
    const Tensor *w = model->tensors + FIRST_LAYER + i * PER_LAYER;
    const Layer *layer = &pass[t].layers[i];
    rmsnorm(layer->norm1, layer->x, embd);
    linear(layer->q, &w[WQ], layer->norm1);
    linear(layer->k, &w[WK], layer->norm1);
    linear(layer->v, &w[WV], layer->norm1);
    for (size_t h = 0; h < embd; h += dim) { /* where a head starts */
        double *weights = layer->weights + h / dim * (t + 1);
        for (size_t s = 0; s <= t; s++)
            weights[s] = dot(layer->q + h, pass[s].layers[i].k + h, dim) / sqrt(dim);
        softmax(weights, weights, t + 1);
        for (size_t s = 0; s <= t; s++)
            add(layer->heads + h, pass[s].layers[i].v + h, weights[s], dim);
    }
    linear(layer->middle, &w[WO], layer->heads);
    add(layer->middle, layer->x, 1, embd);

    rmsnorm(layer->norm2, layer->middle, embd);
    linear(layer->pre, &w[FC1], layer->norm2);
    for (size_t j = 0; j < 4 * embd; j++) {
        const double relu = layer->pre[j] > 0 ? layer->pre[j] : 0;
        layer->post[j] = model->relu2 ? relu * relu : relu;
    }
    linear(layer->output, &w[FC2], layer->post);
    add(layer->output, layer->middle, 1, embd);
}

static void forward(const Model *model, const Position *pass, size_t t, size_t token) {
    const size_t embd = model->n_embd;
    add(pass[t].embedding, model->tensors[WTE].param + token * embd, 1, embd);
    add(pass[t].embedding, model->tensors[WPE].param + t * embd, 1, embd);
    rmsnorm(pass[t].norm, pass[t].embedding, embd);
    for (size_t i = 0; i < model->n_layer; i++)
        forward_layer(model, pass, t, i);
    linear(pass[t].logits, &model->tensors[LM_HEAD], pass[t].layers[model->n_layer - 1].output);
}

/* Backward: each function adds to the gradients of the weights, and to those of what its forward one took in. */

/* y_i = sum_j w_ij x_j, so d_x_j = sum_i w_ij d_y_i, and d_w_ij = d_y_i x_j. */
static void linear_backward(double *d_x, const double *d_y, const Tensor *w, const double *x) {
    for (size_t i = 0; i < w->rows; i++) {
        add(d_x, w->param + i * w->columns, d_y[i], w->columns);
        add(w->grad + i * w->columns, x, d_y[i], w->columns);
    }
}

/* y = s x with s = (mean(x^2) + 1e-5)^(-1/2), so ds/dx_j = -s^3 x_j / n, and d_x = s (d_y - y mean(d_y y)). */
static void rmsnorm_backward(double *d_x, const double *d_y, const double *x, size_t n) {
    const double s = rms_scale(x, n), mean = s * dot(d_y, x, n) / n;
    for (size_t j = 0; j < n; j++)
        d_x[j] += s * (d_y[j] - s * x[j] * mean);
}

/* p = softmax(x): dp_i/dx_j = p_i ([i = j] - p_j), so d_x = p (d_p - sum(p d_p)); d holds d_p, and then d_x. */
static void softmax_backward(double *d, const double *p, size_t n) {
    const double sum = dot(p, d, n);
    for (size_t j = 0; j < n; j++)
        d[j] = p[j] * (d[j] - sum);
}

/* Layer i at position t, after all later positions, so that what they add to its k and v is there. */
static void backward_layer(const Model *model, const Position *pass, const Position *d_pass, size_t t, size_t i) {
    const size_t embd = model->n_embd, dim = model->head_dim;
    const Tensor *w = model->tensors + FIRST_LAYER + i * PER_LAYER;
    const Layer *layer = &pass[t].layers[i], *d = &d_pass[t].layers[i];
    add(d->middle, d->output, 1, embd);
    linear_backward(d->post, d->output, &w[FC2], layer->post);
    for (size_t j = 0; j < 4 * embd; j++) /* relu'(x) = [x > 0], and the derivative of relu(x)^2 is 2 relu(x) */
        d->pre[j] = layer->pre[j] > 0 ? d->post[j] * (model->relu2 ? 2 * layer->pre[j] : 1) : 0;
    linear_backward(d->norm2, d->pre, &w[FC1], layer->norm2);
    rmsnorm_backward(d->middle, d->norm2, layer->middle, embd);

    add(d->x, d->middle, 1, embd);
    linear_backward(d->heads, d->middle, &w[WO], layer->heads);
    for (size_t h = 0; h < embd; h += dim) {
        const double *weights = layer->weights + h / dim * (t + 1);
        double *d_weights = d->weights + h / dim * (t + 1), *d_scores = d_weights; /* which take their place */
        for (size_t s = 0; s <= t; s++) { /* heads = sum_s weights_s v_s */
            d_weights[s] = dot(d->heads + h, pass[s].layers[i].v + h, dim);
            add(d_pass[s].layers[i].v + h, d->heads + h, weights[s], dim);
        }
        softmax_backward(d_weights, weights, t + 1);
        for (size_t s = 0; s <= t; s++) { /* scores_s = q k_s / sqrt(dim) */
            add(d->q + h, pass[s].layers[i].k + h, d_scores[s] / sqrt(dim), dim);
            add(d_pass[s].layers[i].k + h, layer->q + h, d_scores[s] / sqrt(dim), dim);
        }
    }
    linear_backward(d->norm1, d->q, &w[WQ], layer->norm1);
    linear_backward(d->norm1, d->k, &w[WK], layer->norm1);
    linear_backward(d->norm1, d->v, &w[WV], layer->norm1);
    rmsnorm_backward(d->x, d->norm1, layer->x, embd);
}

static void backward(const Model *model, const Position *pass, const Position *d, size_t t, size_t token) {
    const size_t embd = model->n_embd, last = model->n_layer - 1;
    linear_backward(d[t].layers[last].output, d[t].logits, &model->tensors[LM_HEAD], pass[t].layers[last].output);
    for (size_t i = model->n_layer; i-- > 0;)
        backward_layer(model, pass, d, t, i);
    rmsnorm_backward(d[t].embedding, d[t].norm, pass[t].embedding, embd);
    add(model->tensors[WTE].grad + token * embd, d[t].embedding, 1, embd);
    add(model->tensors[WPE].grad + t * embd, d[t].embedding, 1, embd);
}

/* The mean of -log p(next token) over n positions, times the document's share in the batch, and its gradients. */
static double document_loss(const Model *model, const Position *pass, size_t n, const size_t *tokens, double share) {
    const Position *d = make_pass(model, n);
    double loss = 0;
    for (size_t t = 0; t < n; t++)
        forward(model, pass, t, tokens[t]);
    for (size_t t = n; t-- > 0;) {
        double *p = d[t].logits; /* becomes the gradient: that of -log p_next by the logits is p - [next] */
        softmax(p, pass[t].logits, model->vocab_size);
        loss -= log(p[tokens[t + 1]]) * share / n;
        p[tokens[t + 1]] -= 1;
        for (size_t j = 0; j < model->vocab_size; j++)
            p[j] *= share / n;
        backward(model, pass, d, t, tokens[t]);
    }
    return loss;
}

/* Adam. */

static void adam(Model *model) {
    const double progress = model->step / model->num_steps;
    const double decay = model->cosine ? (1 + cos(acos(-1) * progress)) / 2 : 1 - progress;
    model->step++;
    const double m_correction = 1 - pow(model->beta1, model->step), v_correction = 1 - pow(model->beta2, model->step);
    for (size_t j = 0; j < model->n_params; j++) {
        const double g = model->grads[j];
        model->m[j] = model->beta1 * model->m[j] + (1 - model->beta1) * g;
        model->v[j] = model->beta2 * model->v[j] + (1 - model->beta2) * g * g;
        const double m_hat = model->m[j] / m_correction, v_hat = model->v[j] / v_correction;
        model->params[j] -= model->learning_rate * decay * m_hat / (sqrt(v_hat) + model->eps_adam);
    }
}

/* The protocol: a function for each message. None writes before all that may fail is done. */

static void write_number(double x) {
    if (isfinite(x))
        printf("%.17g", x);
    else
        printf(isnan(x) ? "null" : x > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

static void write_matrix(const double *x, size_t rows, size_t columns) {
    for (size_t j = 0; j < rows * columns; j++) {
        printf(j == 0 ? "[[" : j % columns == 0 ? "], [" : ", ");
        write_number(x[j]);
    }
    printf("]]");
}

/* all: where the first tensor's numbers are, among the parameters, gradients or moments. */
static void write_tensors(const Model *model, const char *field, const double *all) {
    printf(", \"%s\": ", field);
    for (size_t i = 0; i < model->n_tensors; i++) {
        const Tensor *tensor = &model->tensors[i];
        printf("%s\"%s\": ", i ? ", " : "{", tensor->name);
        write_matrix(all, tensor->rows, tensor->columns);
        all += tensor->rows * tensor->columns;
    }
    printf("}");
}

static void read_tensors(const Model *model, const Json *message, const char *field, double *all) {
    const Json *tensors = member(message, field, OBJECT);
    for (size_t i = 0; i < model->n_tensors; i++) {
        const Tensor *tensor = &model->tensors[i];
        const Json *rows = member(tensors, tensor->name, LIST);
        int fits = rows->count == tensor->rows;
        for (const Json *row = rows->first; fits && row; row = row->next) {
            fits = row->kind == LIST && row->count == tensor->columns;
            for (const Json *element = row->first; fits && element; element = element->next) {
                fits = element->kind == NUMBER;
                *all++ = element->number;
            }
        }
        if (!fits)
            fail("%s %s must be %zu rows of %zu numbers.", field, tensor->name, tensor->rows, tensor->columns);
    }
}

static size_t *read_tokens(const Model *model, const Json *list) {
    size_t *tokens = temporary(list->count, sizeof *tokens), n = 0;
    for (const Json *token = list->first; token; token = token->next)
        tokens[n++] = whole(token, "A token", 0, model->vocab_size - 1.0);
    return tokens;
}

static void on_hello(Model *model, const Json *message) {
    if (strcmp(member(message, "protocol", STRING)->text, PROTOCOL) != 0)
        fail("I speak the protocol %s.", PROTOCOL);
    for (const Json *option = member(message, "options", OBJECT)->first; option; option = option->next)
        if (option->kind != STRING || (strcmp(option->text, "float64") != 0 && strcmp(option->text, "cpu") != 0))
            fail("I compute in float64 on the cpu, and the option %.40s asks for something else.", option->key);
    make_model(model, member(message, "config", OBJECT), member(message, "hyper", OBJECT));
    printf("{\"type\": \"ready\", \"protocol\": \"%s\", \"dtype\": \"float64\", \"methods\": [\"decode\"]}", PROTOCOL);
}

static void on_load(Model *model, const Json *message) {
    read_tensors(model, message, "params", model->params);
    read_tensors(model, message, "m", model->m);
    read_tensors(model, message, "v", model->v);
    model->step = (double)whole(member(message, "step", NUMBER), "step", 0, 1e15);
    model->loaded = 1;
    printf("{\"type\": \"loaded\"}");
}

static size_t positions(const Model *model, const Json *document) {
    if (document->kind != LIST || document->count < 2)
        fail("A document must be a list of at least two tokens.");
    return document->count - 1 < model->block_size ? document->count - 1 : model->block_size;
}

static void on_train_step(Model *model, const Json *message) {
    const Json *batch = member(message, "batch", LIST), *document = batch->first;
    const Position **passes = temporary(batch->count, sizeof *passes);
    double loss = 0;
    if (!document)
        fail("There are no documents to train on.");
    memset(model->grads, 0, model->n_params * sizeof(double));
    for (size_t i = 0; i < batch->count; i++, document = document->next) {
        const size_t n = positions(model, document);
        passes[i] = make_pass(model, n);
        loss += document_loss(model, passes[i], n, read_tokens(model, document), 1.0 / batch->count);
    }
    adam(model);
    printf("{\"type\": \"step\", \"loss\": ");
    write_number(loss);
    printf(", \"logits\": [");
    document = batch->first;
    for (size_t i = 0; i < batch->count; i++, document = document->next) {
        printf(i ? ", " : "");
        write_matrix(passes[i]->logits, positions(model, document), model->vocab_size);
    }
    printf("]");
    write_tensors(model, "grads", model->grads);
    write_tensors(model, "params", model->params);
    write_tensors(model, "m", model->m);
    write_tensors(model, "v", model->v);
    printf("}");
}

static void on_decode(const Model *model, const Json *message) {
    const Json *list = member(message, "tokens", LIST);
    if (list->count < 1 || list->count > model->block_size)
        fail("I can decode 1 to %zu tokens, not %zu.", model->block_size, list->count);
    const size_t *tokens = read_tokens(model, list);
    const Position *pass = make_pass(model, list->count);
    for (size_t t = 0; t < list->count; t++)
        forward(model, pass, t, tokens[t]);
    printf("{\"type\": \"logits\", \"logits\": ");
    write_matrix(pass->logits, list->count, model->vocab_size);
    printf("}");
}

static void answer(Model *model, char *line) {
    const Json *message = parse(&line, 0);
    if (message->kind != OBJECT || !skip(&line, "") || *line)
        fail("A message must be one JSON object on a line.");
    const char *type = member(message, "type", STRING)->text;
    if (strcmp(type, "hello") == 0)
        on_hello(model, message);
    else if (strcmp(type, "load") == 0 && model->tensors)
        on_load(model, message);
    else if (strcmp(type, "train_step") == 0 && model->loaded)
        on_train_step(model, message);
    else if (strcmp(type, "decode") == 0 && model->loaded)
        on_decode(model, message);
    else
        fail("I cannot answer a message of type %.40s here.", type);
    printf("\n");
    fflush(stdout);
}

/* The next line without its end, however long; 0 where there is none. */
static int read_line(char **line, size_t *capacity) {
    for (size_t length = 0;; length++) {
        if (length == *capacity) {
            *capacity = *capacity ? 2 * *capacity : 4096;
            char *longer = realloc(*line, *capacity);
            if (!longer)
                fail("There is no memory for a line of %zu bytes.", *capacity);
            *line = longer;
        }
        const int c = getchar();
        (*line)[length] = (char)c;
        if (c == EOF || c == '\n') {
            (*line)[length] = '\0';
            return c == '\n' || length;
        }
    }
}

int main(void) {
    Model model = {0};
    char *line = NULL;
    size_t capacity = 0;
    while (read_line(&line, &capacity)) {
        answer(&model, line);
        release_temporaries();
    }
    free_model(&model);
    free(line);
    return 0;
}
