"""How a conversation is written down for the demo models: the special tokens and the chat template."""

from __future__ import annotations

VOCABULARY = 2048
CONTEXT = 2048
DOCUMENT = "<|endoftext|>"  # begins every text; as an output it ends one
END = "<|end|>"  # ends every message
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
SPECIAL = (DOCUMENT, END, SYSTEM, USER, ASSISTANT, TOOL)

# Tools are shown to the model as a system message, so a request that brings tools is answered instead of refused.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}<|system|>Tools: {{ tools | tojson }}<|end|>{%- endif -%}
{%- for message in messages -%}
  {%- set role = 'system' if message.role == 'developer' else message.role -%}
  {%- if role not in ['system', 'user', 'assistant', 'tool'] -%}
    {{- raise_exception('unknown role ' ~ role ~ ': use system, developer, user, assistant or tool') -}}
  {%- endif -%}
  <|{{ role }}|>
  {%- if message.content -%}{{ message.content }}{%- endif -%}
  {%- if message.tool_calls -%}{{ message.tool_calls | tojson }}{%- endif -%}
  <|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
