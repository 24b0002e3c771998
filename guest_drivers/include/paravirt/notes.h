/* SPDX-License-Identifier: 0BSD
 *
 * The ELF notes by which an image says what it is and what it needs.  Each at most once, at file
 * scope of one file:
 *
 *	PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0));
 *	PV_MANIFEST(PV_WANT("input", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_READ_ONLY));
 *	PV_PRIVILEGE(PV_PRIVILEGE_ANY);
 *
 * The link script collects them in a PT_NOTE segment with an alignment of 4.
 */
#ifndef PARAVIRT_NOTES_H
#define PARAVIRT_NOTES_H

#include "paravirt_abi.h"

struct pv_note_head {
	uint32_t owner_bytes;
	uint32_t payload_bytes;
	uint32_t type;
	char owner[(sizeof(PV_NOTE_OWNER) + 3) / 4 * 4];
};

/* The payload starts where the head ends, and its records are whole words: no padding anywhere. */
#define PV_NOTE_SYMBOL(name) pv_image_note_##name __attribute__((section(".note.Paravirt"), used, aligned(4))) =
#define PV_NOTE_HEAD(type, payload_bytes)                                     \
	{                                                                     \
		sizeof(PV_NOTE_OWNER), (payload_bytes), (type), PV_NOTE_OWNER \
	}

#define PV_NEED(service, features)       \
	{                                \
		(service), 0, (features) \
	}
#define PV_NEED_COUNT(...) (sizeof((struct pv_note_service[]){ __VA_ARGS__ }) / sizeof(struct pv_note_service))
/* The version this was built for, and the services (with features) without which it does not run. */
#define PV_REQUIRE(...)                                                                                             \
	static const struct __attribute__((packed, aligned(4))) {                                                   \
		struct pv_note_head head;                                                                           \
		struct pv_note_require require;                                                                     \
		struct pv_note_service services[PV_NEED_COUNT(__VA_ARGS__)];                                        \
	} PV_NOTE_SYMBOL(require)                                                                                   \
	{                                                                                                           \
		PV_NOTE_HEAD(PV_NOTE_REQUIRE, sizeof(struct pv_note_require) +                                      \
						      PV_NEED_COUNT(__VA_ARGS__) * sizeof(struct pv_note_service)), \
			{ PV_ABI_MAJOR, PV_ABI_MINOR, PV_NEED_COUNT(__VA_ARGS__) }, { __VA_ARGS__ },                \
	}

#define PV_WANT(name, type, flags)      \
	{                               \
		(type), (flags), (name) \
	}
#define PV_WANT_COUNT(...) (sizeof((struct pv_note_device[]){ __VA_ARGS__ }) / sizeof(struct pv_note_device))
/* The devices wanted, by logical name; what is not here is not offered. */
#define PV_MANIFEST(...)                                                                                    \
	static const struct __attribute__((packed, aligned(4))) {                                           \
		struct pv_note_head head;                                                                   \
		struct pv_note_device devices[PV_WANT_COUNT(__VA_ARGS__)];                                  \
	} PV_NOTE_SYMBOL(manifest)                                                                          \
	{                                                                                                   \
		PV_NOTE_HEAD(PV_NOTE_MANIFEST, PV_WANT_COUNT(__VA_ARGS__) * sizeof(struct pv_note_device)), \
			{ __VA_ARGS__ },                                                                    \
	}

/* The level to be entered at: one of PV_PRIVILEGE_. */
#define PV_PRIVILEGE(privilege)                                                                        \
	static const struct __attribute__((packed, aligned(4))) {                                      \
		struct pv_note_head head;                                                              \
		struct pv_note_privilege level;                                                        \
	} PV_NOTE_SYMBOL(privilege)                                                                    \
	{                                                                                              \
		PV_NOTE_HEAD(PV_NOTE_PRIVILEGE, sizeof(struct pv_note_privilege)), { (privilege), 0 }, \
	}

/* The least CPU: one of PV_CPU_LEVEL_. */
#define PV_CPU(level_)                                                                  \
	static const struct __attribute__((packed, aligned(4))) {                       \
		struct pv_note_head head;                                               \
		struct pv_note_cpu level;                                               \
	} PV_NOTE_SYMBOL(cpu)                                                           \
	{                                                                               \
		PV_NOTE_HEAD(PV_NOTE_CPU, sizeof(struct pv_note_cpu)), { (level_), 0 }, \
	}

#endif
