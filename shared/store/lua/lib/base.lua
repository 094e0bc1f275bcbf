-- The time, numbers as text, and expiries. Scripts build their keys from ids, so they need one primary (or
-- Sentinel), not a cluster.

-- Milliseconds since 1970, the same for all of a call.
local clock
local function now_ms()
  if not clock then
    local t = redis.call('TIME')
    clock = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  return clock
end

-- For where a number becomes part of a text; as an argument Redis writes a whole number out itself, which takes less.
-- '%.0f' takes three times as long. Needs a Redis of 64 bits.
local function int(value) return string.format('%d', value) end

local function keep(k, seconds)
  if redis.call('TTL', k) < seconds / 2 then redis.call('EXPIRE', k, seconds) end
end

-- Call `write` with the values of a list: some thousand at a time, since Lua's stack takes 8,000.
local PIECE = 1000
local function in_pieces(values, write)
  for from = 1, #values, PIECE do write(unpack(values, from, math.min(from + PIECE - 1, #values))) end
end

-- A full Redis refuses a script whose first write takes memory. After one that takes none it lets the others pass:
-- so do the scripts that end jobs and keep them going, which takes little and gives back much.
local function write_though_full() redis.call('DEL', key.bell('')) end

-- An error that was caught, as an answer. Redis' own begin with their codes, Lua's with where they happened.
local function problem(failure)
  return {err = string.find(failure, '^%u+ ') and failure or 'ERR ' .. failure}
end

-- Redis makes every function of a script anew at each call. What few calls need is made when one does: this returns
-- a function that calls `make` once and then gives what it has made, a table of functions.
local function lazy(make)
  local made
  return function()
    made = made or make()
    return made
  end
end
