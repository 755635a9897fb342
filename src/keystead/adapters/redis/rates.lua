#!lua
-- Decides all rates of one call, all or nothing: limits/arithmetic.py in Lua. A denied call, a free one
-- and a peek write nothing.
-- Whole numbers are exact in doubles up to 2^53, which is as far as the limits that are accepted go; and a quotient of
-- two such numbers is never rounded onto a whole one that it is not, so floor and ceil of it are exact as well.
-- The first line lets the server refuse the script before it begins: a replica, a full memory, a failed disk.
--
-- KEYS    one counter for each rate.
-- ARGV    one text for each rate, little-endian doubles: size_units, token_units, gain_units of a bucket (24 bytes),
--         limit, width_us of a window (16 bytes). Then the cost, then 1 for a peek and 0 for none. Tests add the
--         present time in microseconds, or "tell" to have the server's own as the last number of the reply.
-- Reply   whole numbers: admitted (1 or 0), then remaining, reset_after_us, wait_us of each rate.
--
-- A bucket is kept as missing_units, token_units, at_us (three doubles). A window is kept as the index of its latest
-- sub-window and all that was spent (two doubles), then 33 counts of four bytes, the oldest first.

local EXACT_MAX = 9007199254740992
local SLOTS = 33
local NEVER = -1
-- A counter outlives what it remembers by this, so that no rounding and no clock makes it whole too early. How long that
-- is follows from the numbers it was last spent under, as in the memory of a process.
local MARGIN_MS = 5000

local floor, ceil = math.floor, math.ceil
local pack, unpack_from = struct.pack, struct.unpack

local rates = #KEYS
local cost = tonumber(ARGV[rates + 1])
local peek = ARGV[rates + 2] == '1'
local given = ARGV[rates + 3]
local now
if given and given ~= 'tell' then
    now = tonumber(given)
else
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end

local kept
if rates == 1 then
    kept = {redis.call('GET', KEYS[1])}
else
    kept = redis.call('MGET', unpack(KEYS))
end

local reply = {1}
local present = {}
for i = 1, rates do
    local spec, state = ARGV[i], kept[i]
    local wait = 0
    if #spec == 24 then
        local size, token, gain = unpack_from('<ddd', spec)
        if size == 0 or gain == 0 then
            wait = NEVER
        else
            local missing, at = 0, now
            if state then
                local unit
                missing, unit, at = unpack_from('<ddd', state)
                if unit ~= token then
                    missing = ceil(missing / unit) * token
                    if missing > EXACT_MAX then missing = EXACT_MAX end
                end
                if at < now then
                    missing = missing - (now - at) * gain
                    if missing < 0 then missing = 0 end
                    at = now
                end
            end
            local need, left = cost * token, size - missing
            if cost > 0 and need > left then
                if need > size then wait = NEVER else wait = ceil((need - left) / gain) end
            end
            present[i] = {missing, at, need, size, token, gain}
        end
    else
        local limit, width = unpack_from('<dd', spec)
        if limit == 0 then
            wait = NEVER
        else
            local index, spent, counts = floor(now / width), 0, nil
            if state then
                local before, total = unpack_from('<dd', state)
                if index < before then index = before end
                local passed = index - before
                if passed < SLOTS then
                    spent, counts = total, string.sub(state, 17)
                    if passed > 0 then
                        for slot = 0, passed - 1 do
                            spent = spent - unpack_from('<I4', counts, slot * 4 + 1)
                        end
                        counts = string.sub(counts, passed * 4 + 1) .. string.rep('\0', passed * 4)
                    end
                end
            end
            counts = counts or string.rep('\0', SLOTS * 4)
            if cost > 0 and cost > limit - spent then
                wait = NEVER
                if cost <= limit then
                    local left, slot = spent, -1
                    repeat
                        slot = slot + 1
                        left = left - unpack_from('<I4', counts, slot * 4 + 1)
                    until cost <= limit - left
                    local from = index * width
                    if from < now then from = now end
                    wait = (index + 1 + slot) * width - from
                end
            end
            present[i] = {index, spent, counts, limit, width}
        end
    end
    if wait ~= 0 then reply[1] = 0 end
    reply[i * 3 + 1] = wait
end

local writes = reply[1] == 1 and cost > 0 and not peek
for i = 1, rates do
    local at = present[i]
    local remaining, reset = 0, 0
    if not at then
        -- Denies always: there is nothing to remember.
    elseif #at == 6 then
        local missing, size, token, gain = at[1], at[4], at[5], at[6]
        if writes then missing = missing + at[3] end
        reset = ceil(missing / gain)
        remaining = floor((size - missing) / token)
        if writes then
            local keep_ms = ceil((at[2] - now + reset) / 1000) + MARGIN_MS
            redis.call('SET', KEYS[i], pack('<ddd', missing, token, at[2]), 'PX', string.format('%.0f', keep_ms))
        end
    else
        local index, spent, counts, limit, width = at[1], at[2], at[3], at[4], at[5]
        if writes then
            spent = spent + cost
            local latest = unpack_from('<I4', counts, SLOTS * 4 - 3) + cost
            counts = string.sub(counts, 1, SLOTS * 4 - 4) .. pack('<I4', latest)
            local keep_ms = ceil(((index + SLOTS) * width - now) / 1000) + MARGIN_MS
            redis.call('SET', KEYS[i], pack('<dd', index, spent) .. counts, 'PX', string.format('%.0f', keep_ms))
        end
        remaining = limit - spent
        if spent > 0 then
            local slot = SLOTS - 1
            while unpack_from('<I4', counts, slot * 4 + 1) == 0 do slot = slot - 1 end
            local from = index * width
            if from < now then from = now end
            reset = (index + 1 + slot) * width - from
        end
    end
    if remaining < 0 then remaining = 0 end
    reply[i * 3 - 1] = remaining
    reply[i * 3] = reset
end
if given == 'tell' then reply[#reply + 1] = now end
return reply
