import {
  ConfigurationSubsectionName,
  ElementType,
  FILE_MAGIC,
  FILE_VERSION,
  SECTION_FOOTER,
} from './constants.js'
import type { ConfigurationSubsection, SectionHeader } from './types.js'
import type { Writer } from './writer.js'

/** u32 magic, u32 version. */
export function encodeFileHeader(out: Writer): void {
  out.u32(FILE_MAGIC).u32(FILE_VERSION)
}

/** 07, u32 length, machine type, subsections. To replay a configuration, use `out.bytes(raw)`. */
export function encodeConfiguration(
  out: Writer,
  machineType: string,
  subsections: readonly ConfigurationSubsection[] = [],
): void {
  out.u8(ElementType.configuration).str32(machineType)
  for (const subsection of subsections) {
    out.u8(ElementType.subsection).str8(subsection.name).u32(1)
    switch (subsection.name) {
      case ConfigurationSubsectionName.targetPageBits:
        out.u32(subsection.bits)
        break
      case ConfigurationSubsectionName.capabilities:
        out.u32(subsection.capabilities.length)
        for (const capability of subsection.capabilities) out.str8(capability)
        break
      case ConfigurationSubsectionName.uuid:
        if (subsection.uuid.length !== 16) throw new RangeError('a uuid has 16 bytes')
        out.bytes(subsection.uuid)
    }
  }
}

/** 01, u32 id, str8 idstr, u32 instance id, u32 version. */
export function encodeSectionStart(out: Writer, header: SectionHeader): void {
  encodeHeader(out, ElementType.sectionStart, header)
}

/** 02, u32 id. */
export function encodeSectionPart(out: Writer, id: number): void {
  out.u8(ElementType.sectionPart).u32(id)
}

/** 03, u32 id. */
export function encodeSectionEnd(out: Writer, id: number): void {
  out.u8(ElementType.sectionEnd).u32(id)
}

/** 04, u32 id, str8 idstr, u32 instance id, u32 version. */
export function encodeSectionFull(out: Writer, header: SectionHeader): void {
  encodeHeader(out, ElementType.sectionFull, header)
}

/** 7e, u32 id. */
export function encodeFooter(out: Writer, id: number): void {
  out.u8(SECTION_FOOTER).u32(id)
}

/** 00. */
export function encodeEndOfStream(out: Writer): void {
  out.u8(ElementType.endOfStream)
}

/** 06, u32 length, JSON. Only after the EOF of a precopy. */
export function encodeVmDescription(out: Writer, json: string): void {
  const text = new TextEncoder().encode(json)
  out.u8(ElementType.vmDescription).u32(text.length).bytes(text)
}

function encodeHeader(out: Writer, type: number, header: SectionHeader): void {
  out.u8(type).u32(header.id).str8(header.idstr).u32(header.instanceId).u32(header.version)
}
