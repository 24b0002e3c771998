local paravirt = Proto("paravirt", "Paravirt hypercalls")

local makers = {
	uint8_t = { ProtoField.uint8, base.DEC_HEX },
	uint16_t = { ProtoField.uint16, base.DEC_HEX },
	uint32_t = { ProtoField.uint32, base.DEC_HEX },
	uint64_t = { ProtoField.uint64, base.DEC_HEX },
	int64_t = { ProtoField.int64, base.DEC },
}

local list = {} -- of all fields, for the protocol

local function keep(field)
	list[#list + 1] = field
	return field
end

local function field_of(abbreviation, f)
	if f.kind == "char" then
		return keep(ProtoField.string(abbreviation, f.name, base.ASCII, f.doc))
	elseif f.kind == "bytes" then
		return keep(ProtoField.bytes(abbreviation, f.name, base.NONE, f.doc))
	end
	local maker = makers[f.kind]
	return keep(maker[1](abbreviation, f.name, f.values and base.DEC or maker[2], f.values, nil, f.doc))
end

for name, record in pairs(records) do
	for _, f in ipairs(record.fields) do
		f.field = not records[f.kind] and field_of("paravirt." .. name .. "." .. f.name, f) or nil
	end
end
for _, call in pairs(calls) do
	for _, argument in ipairs(call.arguments) do
		argument.kind = "uint64_t"
		argument.field = field_of("paravirt." .. call.name .. "." .. argument.name, argument)
	end
end

local own = {
	kind = keep(ProtoField.uint16("paravirt.kind", "Kind", base.DEC, kinds)),
	vcpu = keep(ProtoField.uint32("paravirt.vcpu", "vCPU")),
	id = keep(ProtoField.uint32("paravirt.call", "Call id", base.HEX)),
	name = keep(ProtoField.string("paravirt.name", "Call")),
	road = keep(ProtoField.uint16("paravirt.road", "Road", base.DEC, roads)),
	argument = keep(ProtoField.uint64("paravirt.argument", "Argument", base.HEX)),
	status = keep(ProtoField.int64("paravirt.status", "Status")),
	status_name = keep(ProtoField.string("paravirt.status_name", "Status")),
	value = keep(ProtoField.uint64("paravirt.value", "Value", base.DEC_HEX)),
	begin_ns = keep(ProtoField.uint64("paravirt.begin", "Begin (ns)")),
	end_ns = keep(ProtoField.uint64("paravirt.end", "End (ns)")),
	duration = keep(ProtoField.uint64("paravirt.duration", "Duration (ns)")),
	at_ns = keep(ProtoField.uint64("paravirt.at", "At (ns)")),
	channel = keep(ProtoField.uint64("paravirt.channel", "Channel")),
	doorbell = keep(ProtoField.uint64("paravirt.doorbell", "Doorbell", base.HEX)),
	entry = keep(ProtoField.uint64("paravirt.entry", "First instruction", base.HEX)),
	input = keep(ProtoField.bytes("paravirt.input", "Input")),
	output = keep(ProtoField.bytes("paravirt.output", "Output")),
}
paravirt.fields = list

local short = ProtoExpert.new("paravirt.short", "The packet is too short", expert.group.MALFORMED, expert.severity.ERROR)
paravirt.experts = { short }

-- The part of `data` from `at` on, or nothing and a mark in the tree.
local function part(data, at, size, tree)
	if at + size > data:len() then
		tree:add_proto_expert_info(short)
		return nil
	end
	return data(at, size)
end

local function add_record(data, tree, name)
	local record = records[name]
	for _, f in ipairs(record.fields) do
		for i = 0, f.count - 1 do
			local range = data(f.offset + i * f.size, f.size)
			if records[f.kind] then
				add_record(range, tree:add(range, f.name), f.kind)
			else
				tree:add_le(f.field, range)
			end
		end
	end
end

-- One record of a packet in a tree of its own; where it ends, or nothing.
local function take(data, at, tree, name)
	local range = part(data, at, records[name].size, tree)
	if not range then
		return nil
	end
	add_record(range, tree:add(range, name), name)
	return at + records[name].size
end

local function machine(data, pinfo, tree)
	local at = take(data, 0, tree, "recorded_machine")
	if not at then
		return
	end
	local services = data(offsets.services, 2):le_uint()
	local devices = data(offsets.devices, 2):le_uint()
	for i = 1, services + devices do
		at = take(data, at, tree, i <= services and "recorded_service" or "recorded_device")
		if not at then
			return
		end
	end
	pinfo.cols.info = "machine: " .. data(offsets.image, records.recorded_machine.size - offsets.image):stringz()
end

local function add_arguments(data, tree, call)
	local shown = {}
	for i = 0, 5 do
		local range = data(offsets.args + 8 * i, 8)
		local argument = call and call.arguments[i + 1]
		if argument then
			tree:add_le(argument.field, range)
			shown[#shown + 1] = argument.name .. "=0x" .. range:le_uint64():tohex():gsub("^0+(.)", "%1")
		elseif range:le_uint64() ~= UInt64(0) then
			tree:add_le(own.argument, range)
		end
	end
	return table.concat(shown, ", ")
end

-- A buffer's bytes, and what they are if the call declares a record.
local function add_buffer(range, tree, input, name)
	local subtree = tree:add(input and own.input or own.output, range)
	local record = name and records[name]
	if record then
		for at = 0, range:len() - record.size, record.size do
			local one = range(at, record.size)
			add_record(one, subtree:add(one, name), name)
		end
	end
end

local function add_buffers(data, tree, call)
	local at = records.recorded_call.size
	local count = data(offsets.buffers, 4):le_uint()
	local bytes = at + count * records.recorded_buffer.size
	for _ = 1, count do
		local head = part(data, at, records.recorded_buffer.size, tree)
		if not head then
			return
		end
		local argument, size = head(0, 2):le_uint(), head(offsets.bytes, 4):le_uint()
		take(data, at, tree, "recorded_buffer")
		at = at + records.recorded_buffer.size
		if size > 0 then
			local range = part(data, bytes, size, tree)
			if not range then
				return
			end
			add_buffer(range, tree, head(offsets.access, 2):le_uint() == INPUT, call and call.records[argument])
			bytes = bytes + size
		end
	end
end

local function call_packet(data, pinfo, tree)
	if not part(data, 0, records.recorded_call.size, tree) then
		return
	end
	local id = data(offsets.call, 4):le_uint()
	local call = calls[id]
	local name = call and call.name or string.format("unknown 0x%x", id)
	local status = data(offsets.status, 8):le_int64():tonumber()
	local begin_ns, end_ns = data(offsets.begin_ns, 8), data(offsets.end_ns, 8)
	tree:add_le(own.vcpu, data(offsets.vcpu, 4))
	tree:add_le(own.road, data(offsets.road, 2))
	tree:add_le(own.id, data(offsets.call, 4))
	tree:add(own.name, data(offsets.call, 4), name)
	local given = add_arguments(data, tree, call)
	tree:add_le(own.status, data(offsets.status, 8))
	tree:add(own.status_name, data(offsets.status, 8), statuses[status] or tostring(status))
	tree:add_le(own.value, data(offsets.value, 8))
	tree:add_le(own.begin_ns, begin_ns)
	tree:add_le(own.end_ns, end_ns)
	tree:add(own.duration, end_ns, end_ns:le_uint64() - begin_ns:le_uint64()):set_generated()
	add_buffers(data, tree, call)
	local value = status < 0 and "" or " 0x" .. data(offsets.value, 8):le_uint64():tohex():gsub("^0+(.)", "%1")
	pinfo.cols.info = name .. "(" .. given .. ") = " .. (statuses[status] or tostring(status)) .. value
end

local function moment(data, pinfo, tree, kind)
	if not part(data, 0, records.recorded_moment.size, tree) then
		return
	end
	local vcpu, number = data(offsets.moment_vcpu, 4), data(offsets.number, 8)
	if vcpu:le_uint() ~= 0xffffffff then
		tree:add_le(own.vcpu, vcpu)
	end
	tree:add_le(own.at_ns, data(offsets.at_ns, 8))
	local field = numbers[kind] and own[numbers[kind]]
	if field then
		tree:add_le(field, number)
	end
	local words = (kinds[kind] or "kind " .. kind):lower():gsub("_", " ")
	pinfo.cols.info = words .. " " .. number:le_uint64():tonumber()
end

function paravirt.dissector(buffer, pinfo, tree)
	pinfo.cols.protocol = "Paravirt"
	local data = buffer()
	local subtree = tree:add(paravirt, data)
	if not part(data, 0, 8, subtree) then
		return
	end
	local kind = data(0, 2):le_uint()
	subtree:add_le(own.kind, data(0, 2))
	if kind == MACHINE then
		machine(data, pinfo, subtree)
	elseif kind == CALL then
		call_packet(data, pinfo, subtree)
	else
		moment(data, pinfo, subtree, kind)
	end
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, paravirt)
