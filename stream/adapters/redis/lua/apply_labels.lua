-- Updates the label profiles of one shard, each offset once.
--
-- KEYS  1: the shard's applied label offsets; then the label profiles of the entities.
-- ARGV  1: half-lives; 2: labelled transactions remembered one by one; 3: weeks in which frauds are counted;
--       4: the last offset; 5: the packed labels.
--
-- The arithmetic is models/features/label_memory.py, operation by operation: that fixes every bit.

local unpack_struct, pack_struct, byte, char, rep =
  struct.unpack, struct.pack, string.byte, string.char, string.rep
local insert, remove, floor, call = table.insert, table.remove, math.floor, redis.call
local halves, LATEST, WEEKS, labels = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local WEEK = 604800
local DOUBLES = 3 + 5 * halves -- updates, frauds, genuine; sums
if call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local applied_offset = tonumber(call('HGET', KEYS[1], 'profiles') or '-1')

local function layout_of(latest, weeks)
  return '<' .. rep('d', DOUBLES + 3 * weeks + latest) .. rep('I4', latest)
end

-- The latest labelled transactions: event times, digests with labels. The weeks: number, frauds, their seconds.
local profiles, times, codes, all_weeks = {}, {}, {}, {}
local function load(i)
  local blob = call('GET', KEYS[1 + i])
  local profile, latest_times, latest_codes, weeks = {}, {}, {}, {}
  if blob then
    local latest, counted = byte(blob, 1, 2)
    profile = {unpack_struct(layout_of(latest, counted), blob, 3)}
    for n = 1, 3 * counted do weeks[n] = profile[DOUBLES + n] end
    local from = DOUBLES + 3 * counted
    for n = 1, latest do
      latest_times[n], latest_codes[n] = profile[from + n], profile[from + latest + n]
    end
  else
    for d = 1, DOUBLES do profile[d] = 0 end
  end
  profiles[i], times[i], codes[i], all_weeks[i] = profile, latest_times, latest_codes, weeks
  return profile
end

local function remember(latest_times, latest_codes, time, digest, fraud)
  local n, place = #latest_times, 1
  while place <= n and (latest_times[place] > time
      or (latest_times[place] == time and latest_codes[place] > digest + 1)) do
    place = place + 1
  end
  if place <= n and latest_times[place] == time and latest_codes[place] >= digest then
    latest_codes[place] = digest + fraud
  elseif place <= LATEST then
    insert(latest_times, place, time)
    insert(latest_codes, place, digest + fraud)
    if n == LATEST then
      remove(latest_times)
      remove(latest_codes)
    end
  end
end

local function count(weeks, time, more)
  local week = floor(time / WEEK)
  local seconds = floor(time - week * WEEK)
  local place = 1
  while weeks[place] and weeks[place] > week do place = place + 3 end
  if weeks[place] == week then
    weeks[place + 1] = weeks[place + 1] + more
    weeks[place + 2] = weeks[place + 2] + more * seconds
    if weeks[place + 1] == 0 then
      for _ = 1, 3 do remove(weeks, place) end
    end
  elseif more > 0 then
    insert(weeks, place, seconds)
    insert(weeks, place, 1)
    insert(weeks, place, week)
  end
end

local function apply_label(i, label)
  local profile = profiles[i] or load(i)
  local fraud, corrects = label[3], label[4]
  local fresh = profile[1] == 0
  local at = 4
  for w = 7, 5 + 2 * halves, 2 do
    local block, weight = label[w], label[w + 1]
    if fresh then
      profile[at] = block
    elseif block > profile[at] then
      local is_next = block == profile[at] + 1
      for place = at + 1, at + 2 do
        profile[place + 2] = is_next and profile[place] or 0
        profile[place] = 0
      end
      profile[at] = block
    end
    local age = profile[at] - block
    if age <= 1 then -- else forgotten, or it would be if it had come earlier
      local now, before = at + 2 - fraud, at + 1 + fraud
      if age == 1 then now, before = now + 2, before + 2 end
      profile[now] = profile[now] + weight
      if corrects == 1 then profile[before] = profile[before] - weight end
    end
    at = at + 5
  end
  profile[1] = profile[1] + 1
  if fraud == 1 then
    profile[2], profile[3] = profile[2] + 1, profile[3] - corrects
  else
    profile[2], profile[3] = profile[2] - corrects, profile[3] + 1
  end
  remember(times[i], codes[i], label[5], label[6], fraud)
  local weeks = all_weeks[i]
  if fraud == 1 or corrects == 1 then count(weeks, label[5], 2 * fraud - 1) end
  local oldest = floor(times[i][1] / WEEK) - WEEKS
  while #weeks > 0 and weeks[#weeks - 2] <= oldest do
    for _ = 1, 3 do remove(weeks) end
  end
end

local position, size = 1, #labels
while position <= size do
  local touched = byte(labels, position + 8)
  local layout = '<dBBBdI4' .. rep('dd', halves) .. rep('I4', touched)
  local label = {unpack_struct(layout, labels, position)}
  if label[1] > applied_offset then
    for e = 7 + 2 * halves, 6 + 2 * halves + touched do apply_label(label[e], label) end
  end
  position = label[#label]
end

if tonumber(ARGV[4]) > applied_offset then call('HSET', KEYS[1], 'profiles', ARGV[4]) end
for i, profile in pairs(profiles) do
  local latest, counted = #times[i], #all_weeks[i] / 3
  for n = 1, 3 * counted do profile[DOUBLES + n] = all_weeks[i][n] end
  local from = DOUBLES + 3 * counted
  for n = 1, latest do
    profile[from + n], profile[from + latest + n] = times[i][n], codes[i][n]
  end
  local packed = pack_struct(layout_of(latest, counted), unpack(profile, 1, from + 2 * latest))
  call('SET', KEYS[1 + i], char(latest, counted) .. packed)
end
return 1
