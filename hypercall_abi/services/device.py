"""Service device: virtio devices without registers: every step of the status machine is a call."""

from ..schema import GPA, U16, U32, Arg, Buffer, Call, Constants, Limit, Record, Rule, Service, pad, text

DEVICES = Limit(9, "DEVICES", 32, "devices", "Devices of a machine.")
QUEUES = Limit(10, "DEVICE_QUEUES", 8, "queues", "Queues of a device.")
QUEUE_SIZE = Limit(11, "QUEUE_SIZE", 256, "descriptors", "Descriptors of a queue.")
CONFIG_BYTES = Limit(12, "CONFIG_BYTES", 256, "bytes", "Configuration space of a device.")
LIST_BYTES = Limit(13, "DEVICE_LIST_BYTES", 4096, "bytes", "Output of device.list.")

FEATURE = Constants(
    "device_feature",
    "Features of the service device.",
    ("QUEUE_RESET", 0, "device.queue_reset exists, with VIRTIO_F_RING_RESET."),
    ("HOTPLUG", 1, "Channel DEVICE tells of devices that arrive and leave."),
    bits=True,
)

BINDING = Constants(
    "binding", "What device.bind binds besides a queue.", ("CONFIG", 0xFFFF, "Changes of the configuration.")
)

DEVICE_INFO = Record(
    "device_info",
    "One device. Written by the host.",
    "device" / U32 * "Index, the first argument of the calls below.",
    "type" / U32 * "Virtio device id.",
    "queues" / U16 * "Number of queues.",
    "config_bytes" / U16 * "Size of the configuration space.",
    "flags" / U32 * "Constants `device_flag`: READ_ONLY, if it was attached so (PMEM-3).",
    "name" / text(32) * "Logical name, as in the manifest.",
)

QUEUE_SETUP = Record(
    "queue_setup",
    "Where a queue lies and what it raises. Written by the guest.",
    "queue" / U16 * "Index of the queue.",
    "size" / U16 * "Descriptors: a power of two, at most the device's maximum.",
    "vcpu" / U32 * "vCPU whose channel is raised when the device used buffers.",
    "channel" / U32 * "That channel, or all ones for none.",
    pad(4),
    "descriptors_gpa" / GPA * "Descriptor area, 16-byte aligned.",
    "driver_gpa" / GPA * "Driver area (available ring), 2-byte aligned.",
    "device_gpa" / GPA * "Device area (used ring), 4-byte aligned.",
)

_DEVICE = Arg("device", "Index of the device.")
_QUEUE = Arg("queue", "Index of the queue.")

SERVICE = Service(
    7,
    "device",
    "Virtio 1.x devices over calls; the rules of the virtio specification hold for the rest.",
    (
        Call(
            0,
            "list",
            "Lists the devices, as many whole records as fit.",
            (Buffer("records", "Room for device_info records.", "write", LIST_BYTES, align=8),),
            value="bytes written",
        ),
        Call(
            1,
            "features",
            "Reads 64 of the offered feature bits.",
            (_DEVICE, Arg("block", "0: bits 0 to 63, 1: bits 64 to 127.")),
            value="feature bits",
            statuses=("NOT_FOUND", "INVALID"),
        ),
        Call(
            2,
            "accept",
            "Writes 64 of the driver's feature bits; before FEATURES_OK.",
            (_DEVICE, Arg("block", "As above."), Arg("features", "Feature bits accepted.")),
            statuses=("NOT_FOUND", "INVALID", "BAD_STATE"),
        ),
        Call(
            3,
            "status",
            "Reads the device status.",
            (_DEVICE,),
            value="virtio status bits",
            varies=("value",),
            statuses=("NOT_FOUND",),
        ),
        Call(
            4,
            "set_status",
            "Writes the device status; zero resets the device.",
            (_DEVICE, Arg("status", "Virtio status bits.")),
            value="status afterwards",
            varies=("value",),
            statuses=("NOT_FOUND", "INVALID", "BAD_STATE"),
        ),
        Call(
            5,
            "config_read",
            "Reads of the configuration space.",
            (_DEVICE, Arg("offset", "First byte."), Buffer("data", "Room.", "write", CONFIG_BYTES)),
            value="bytes read",
            statuses=("NOT_FOUND", "INVALID"),
        ),
        Call(
            6,
            "config_write",
            "Writes to the configuration space.",
            (_DEVICE, Arg("offset", "First byte."), Buffer("data", "Bytes.", "read", CONFIG_BYTES)),
            value="bytes written",
            statuses=("NOT_FOUND", "INVALID"),
        ),
        Call(
            7,
            "generation",
            "Reads the generation of the configuration space.",
            (_DEVICE,),
            value="generation",
            varies=("value",),
            statuses=("NOT_FOUND",),
        ),
        Call(
            8,
            "queue_size",
            "Asks for the largest size of a queue.",
            (_DEVICE, _QUEUE),
            value="descriptors, 0: no such queue",
            statuses=("NOT_FOUND",),
        ),
        Call(
            9,
            "queue_setup",
            "Sets a queue up and enables it; after FEATURES_OK.",
            (_DEVICE, Buffer("setup", "A queue_setup record.", "read", align=8, entry=QUEUE_SETUP, fixed=True)),
            statuses=("NOT_FOUND", "INVALID", "UNALIGNED", "BAD_ADDRESS", "BAD_STATE"),
        ),
        Call(
            10,
            "queue_reset",
            "Takes a queue back from the device.",
            (_DEVICE, _QUEUE),
            feature="QUEUE_RESET",
            statuses=("NOT_FOUND", "BAD_STATE"),
        ),
        Call(
            11,
            "bind",
            "Binds a queue's or the configuration's event to a channel.",
            (
                _DEVICE,
                Arg("queue", "Queue, or CONFIG."),
                Arg("vcpu", "Index of the vCPU."),
                Arg("channel", "Channel, or all ones (32 bits) for none."),
            ),
            statuses=("NOT_FOUND",),
        ),
        Call(
            12,
            "notify",
            "Tells the device that a queue has new buffers; the doorbell does the same for less.",
            (_DEVICE, _QUEUE),
            statuses=("NOT_FOUND", "BAD_STATE", "QUOTA"),
        ),
    ),
    FEATURE,
)

RULES = (
    Rule(
        "DEV-1", "A device starts in the state after reset; every change of status follows the virtio status machine."
    ),
    Rule(
        "DEV-2",
        "device.set_status answers INVALID when it clears a bit of the driver's other than by writing zero, sets "
        "NEEDS_RESET, or sets a bit that is not defined. A driver that leaves NEEDS_RESET out does not clear it.",
    ),
    Rule("DEV-3", "FEATURES_OK is refused (stays clear) when a bit not offered was accepted or VERSION_1 was not."),
    Rule("DEV-4", "device.accept after FEATURES_OK answers BAD_STATE."),
    Rule(
        "DEV-5",
        "device.queue_setup answers BAD_STATE before FEATURES_OK, after FAILED or NEEDS_RESET, for an enabled "
        "queue, and after DRIVER_OK unless RING_RESET was agreed.",
    ),
    Rule(
        "DEV-6",
        "A configuration access beyond the space, or a write to bytes that the driver may not change, answers INVALID.",
    ),
    Rule("DEV-7", "A fault of the driver in a queue sets NEEDS_RESET and stops the device, not the machine."),
    Rule(
        "DEV-8",
        "The doorbell takes device << 16 | queue, 32 bits wide; one that names no enabled queue is ignored. A guest "
        "whose CPU may pass earlier stores by it puts a barrier before it.",
        "both",
    ),
    Rule(
        "DEV-9",
        "device.set_status answers BAD_STATE when it sets DRIVER without ACKNOWLEDGE, FEATURES_OK without DRIVER, "
        "DRIVER_OK before FEATURES_OK was found set, or any of these after NEEDS_RESET or FAILED.",
    ),
    Rule(
        "DEV-10",
        "device.queue_setup answers NOT_FOUND for a queue, vCPU or channel that does not exist, INVALID for a "
        "size that is not a power of two or is above the queue's maximum, UNALIGNED and BAD_ADDRESS as VQ-8 says.",
    ),
    Rule(
        "DEV-11", "device.notify of a queue that is not enabled, or of a device that is not running, answers BAD_STATE."
    ),
    Rule(
        "DEV-12", "Doorbells by device.notify beyond the machine's budget are refused with QUOTA; the machine runs on."
    ),
    Rule("DEV-13", "A device has one transport: one reached by virtio-mmio is not listed and answers NOT_FOUND."),
    Rule("DEV-14", "Over virtio-mmio, where no status is answered, a step that these rules refuse has no effect."),
    Rule(
        "DEV-15",
        "A reset is answered once the device no longer touches memory; queues, bindings and accepted features are "
        "forgotten, channels that are pending stay so.",
    ),
    Rule(
        "DEV-16",
        "A binding holds until the next device.bind, device.queue_setup of that queue, or reset; afterwards the "
        "driver looks at the queue once, since what was used before may have been told the old way.",
        "both",
    ),
    Rule(
        "DEV-17",
        "device.queue_reset does to one queue what a reset does to all; it answers BAD_STATE for a queue that is not "
        "enabled and where RING_RESET was not agreed.",
    ),
    Rule(
        "DEV-18",
        "A driver resets the device, sets ACKNOWLEDGE and DRIVER, accepts features, sets FEATURES_OK and sees that it "
        "stayed, sets its queues up, then sets DRIVER_OK; before that it gives the device no buffers to use.",
        "guest",
    ),
    Rule(
        "DEV-19",
        "device.generation differs after the host changed the configuration; a driver reads fields that belong "
        "together between two equal answers of it.",
        "both",
        no_case="the host changes a configuration for reasons of its own, which no guest can bring about",
    ),
    Rule(
        "DEV-20",
        "Of devices, drivers, virtqueues and virtio-mmio the virtio specification holds where the rules here say "
        "nothing; where they differ, these hold.",
        "both",
        no_case="what virtio asks of devices has ids of its own, which cases cite, and a page of its own",
    ),
    Rule(
        "DEV-21",
        "device.list writes whole records only, in the order of the devices' indexes, which are below DEVICES; a "
        "device keeps its index and its name as long as it is there.",
    ),
    Rule(
        "DEV-22",
        "A device that arrives is one that the image's manifest names, or any if the image has no notes. It is listed, "
        "under an index that no device had before; then, if HOTPLUG was accepted, channel DEVICE of vCPU 0 is raised.",
        no_case="the host attaches devices for reasons of its own, which no guest can bring about",
    ),
    Rule(
        "DEV-23",
        "A device that is to leave is listed no more and, unless it was just reset, sets NEEDS_RESET as after a fault; "
        "then channel DEVICE is raised as in DEV-22. Once it is reset, all calls answer NOT_FOUND for it.",
        no_case="the host takes devices away for reasons of its own, which no guest can bring about",
    ),
)
