-- A port's side of lines.py in Lua, for `lua -l lines`: the global `parity`.
local started, out, given = 0, {}, nil

local function numbers(text)
    local found = {}
    for word in text:gmatch("%S+") do found[#found + 1] = tonumber(word) end
    return found
end

local function say(name, values)
    local words = {}
    for i, x in ipairs(values) do words[i] = ("%.17g"):format(x) end
    out[#out + 1] = ("\nparity %s %s\n"):format(name, table.concat(words, " "))
end

parity = { tokens = {}, step = 0, places = nil }

-- Where params[i], which a port gathers in no certain order, stands in the order of names.
local function places_of(params, state, layers)
    local place, number, found = {}, 0, {}
    local names = { "wte", "wpe", "lm_head" }
    for layer = 0, layers - 1 do
        for _, name in ipairs({ "attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2" }) do
            names[#names + 1] = "layer" .. layer .. "." .. name
        end
    end
    for _, name in ipairs(names) do
        for _, row in ipairs(state[name]) do
            for _, p in ipairs(row) do number = number + 1; place[p] = number end
        end
    end
    for i, p in ipairs(params) do found[place[p]] = i end
    return found
end

local function picked(values, read)
    local found = {}
    for number, i in ipairs(parity.places) do found[number] = read(values[i]) end
    return found
end

local function same(x) return x end

-- Waits for the next step, and gives its number; a state that was loaded is in place.
function parity.next(params, m, v, state, layers)
    parity.places = parity.places or places_of(params, state, layers)
    while true do
        local line = io.read("l")
        if not line then os.exit(0) end
        local values = numbers(line:match("%S+%s+(.*)"))
        if line:sub(1, 4) == "load" then
            parity.step = math.tointeger(values[1])
            for number, x in ipairs(numbers(io.read("l"))) do params[parity.places[number]].data = x end
            for number, x in ipairs(numbers(io.read("l"))) do m[parity.places[number]] = x end
            for number, x in ipairs(numbers(io.read("l"))) do v[parity.places[number]] = x end
        else
            parity.tokens = values
            given = line:sub(1, 6) == "update" and numbers(io.read("l")) or nil
            started = os.clock()
            parity.step = parity.step + 1
            return parity.step - 1
        end
    end
end

function parity.logits(values)
    local found = {}
    for i, value in ipairs(values) do found[i] = value.data end
    say("logits", found)
end

-- The gradients that backward gave; those that the parent gave take their place.
function parity.gradients(params)
    say("grads", picked(params, function(p) return p.grad end))
    if given then
        for number, g in ipairs(given) do params[parity.places[number]].grad = g end
    end
end

function parity.answer(loss, params, m, v)
    say("seconds", { os.clock() - started })
    say("loss", { loss })
    say("params", picked(params, function(p) return p.data end))
    say("m", picked(m, same))
    say("v", picked(v, same))
    io.write(table.concat(out), "\nparity done\n")
    io.flush()
    out = {}
end
